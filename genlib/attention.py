"""The blocks of a transformer decoder: causal self-attention with a cache, and what goes around it.

Rotary positions (Su et al. 2021), RMS norms (Zhang & Sennrich 2019), also of queries and keys
(Henry et al. 2020).
"""

import numpy as np

from genlib._backend import keras

layers, ops = keras.layers, keras.ops


def rotate(x, positions):
    """Turn pairs of numbers by angles that grow with the position (Su et al. 2021, eq. 34).

    x: (batch, heads, time, head_dim); positions: (time,). A query and a key that were turned meet
    at the angle of their distance, so their product knows how far apart they are.
    """
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-np.arange(half) / half)
    angle = ops.cast(positions, "float32")[:, None] * frequency.astype("float32")  # (time, half)
    first, second = x[..., :half], x[..., half:]
    cosine, sine = ops.cos(angle), ops.sin(angle)
    return ops.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)


def causal_mask(time, seen=None, position=0):
    """Which of ``seen`` keys may ``time`` queries see that start at ``position``: booleans
    (time, seen), true for those before a query and for its own."""
    return ops.arange(seen or time) <= position + ops.arange(time)[:, None]


def attend(queries, keys, values, mask):
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1). Returns (result, weights).

    queries (..., time, head_dim); keys and values (..., seen, head_dim); mask: booleans
    (time, seen), which keys a query may see.
    """

    def turned(x):
        return ops.swapaxes(x, -1, -2)

    # Q Kᵀ and W V as (K Qᵀ)ᵀ and (Vᵀ Wᵀ)ᵀ: for a single query, as in generation, XLA is faster so.
    scores = turned(ops.matmul(keys, turned(queries))) / float(np.sqrt(keys.shape[-1]))
    weights = ops.softmax(ops.where(mask, scores, -1e9))
    return turned(ops.matmul(turned(values), turned(weights))), weights


@keras.saving.register_keras_serializable(package="genlib")
class CausalSelfAttention(layers.Layer):
    """Each position looks at itself and at those before it. (batch, time, model_dim) → the same.

    With a cache, a pair of keys and values (batch, heads, context, head_dim), x continues at
    ``position``, and the filled cache is returned too.
    """

    def __init__(self, model_dim, num_heads, rotary=True, **kwargs):
        super().__init__(**kwargs)
        self.model_dim, self.num_heads, self.rotary = model_dim, num_heads, rotary
        self.project = layers.Dense(3 * model_dim, use_bias=False, name="project")
        self.merge = layers.Dense(
            model_dim, use_bias=False, kernel_initializer="zeros", name="merge"
        )
        self.norms = [layers.RMSNormalization(name=f"norm_{i}") for i in range(2)]

    def build(self, shape):
        self.project.build(shape)
        self.merge.build(shape)
        for norm in self.norms:
            norm.build((None, None, None, self.model_dim // self.num_heads))

    def call(self, x, cache=None, position=0):
        queries, keys, values = self.split(x, position)
        time = x.shape[1]
        if cache is not None:
            keys, values = (
                ops.slice_update(old, (0, 0, position, 0), new)
                for old, new in zip(cache, (keys, values), strict=True)
            )
        mask = causal_mask(time, keys.shape[2], position)
        result, _ = attend(queries, keys, values, mask)
        result = ops.reshape(ops.swapaxes(result, 1, 2), (-1, time, self.model_dim))
        result = self.merge(result)
        return result if cache is None else (result, (keys, values))

    def split(self, x, position=0):
        """Queries, keys and values, (batch, heads, time, head_dim) each, of x."""
        time, head_dim = x.shape[1], self.model_dim // self.num_heads
        parts = ops.reshape(self.project(x), (-1, time, 3, self.num_heads, head_dim))
        queries, keys, values = ops.unstack(ops.transpose(parts, (2, 0, 3, 1, 4)))
        queries, keys = self.norms[0](queries), self.norms[1](keys)
        if self.rotary:
            positions = position + ops.arange(time)
            queries, keys = rotate(queries, positions), rotate(keys, positions)
        return queries, keys, values

    def get_config(self):
        names = ("model_dim", "num_heads", "rotary")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="genlib")
class Block(layers.Layer):
    """Attention moves information between positions, two dense layers work on each of them. Both
    read a normalised x and add to it. (batch, time, model_dim) → the same."""

    def __init__(self, model_dim, num_heads, rotary=True, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.config = {"model_dim": model_dim, "num_heads": num_heads}
        self.config |= {"rotary": rotary, "dropout": dropout}
        self.attention = CausalSelfAttention(model_dim, num_heads, rotary, name="attention")
        self.norms = [layers.RMSNormalization(name=f"norm_{i}") for i in range(2)]
        self.widen = layers.Dense(4 * model_dim, use_bias=False, name="widen")
        self.narrow = layers.Dense(
            model_dim, use_bias=False, kernel_initializer="zeros", name="narrow"
        )
        self.dropout = layers.Dropout(dropout)

    def build(self, shape):
        for layer in (self.attention, *self.norms, self.widen):
            layer.build(shape)
        self.narrow.build((*shape[:-1], 4 * shape[-1]))

    def call(self, x, cache=None, position=0, training=False):
        mixed = self.attention(self.norms[0](x), cache=cache, position=position)
        mixed, cache = mixed if cache is not None else (mixed, None)
        x = x + self.dropout(mixed, training=training)
        worked = self.narrow(ops.relu(self.widen(self.norms[1](x))))
        x = x + self.dropout(worked, training=training)
        return x if cache is None else (x, cache)

    def get_config(self):
        return super().get_config() | self.config
