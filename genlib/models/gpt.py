"""A generative pretrained transformer: tokens in, the distribution of the next token out.

A pre-norm decoder (Radford et al. 2019) whose one matrix serves for tokens in and out (Press & Wolf
2017); its generation keeps a cache of keys and values. Rotary positions (Su et al. 2021), RMS norms
(Zhang & Sennrich 2019), also of queries and keys (Henry et al. 2020).
"""

import numpy as np

from genlib import UserError, check_choice
from genlib.data import checkpoints
from genlib.models.language import LanguageModel
from genlib.training.backend import keras

layers, ops = keras.layers, keras.ops
POSITIONS = ("rotary", "learned")


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
    """Each position looks at itself and at those before it: (batch, time, model_dim) → the same,
    and the cache, a pair of keys and values (batch, heads, seen, head_dim).

    With a cache, of room for all positions, x continues at ``position`` and fills it.
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
        return self.merge(result), (keys, values)

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
    read a normalised x and add to it: (batch, time, model_dim) → the same, and the cache."""

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
        mixed, cache = self.attention(self.norms[0](x), cache=cache, position=position)
        x = x + self.dropout(mixed, training=training)
        worked = self.narrow(ops.relu(self.widen(self.norms[1](x))))
        return x + self.dropout(worked, training=training), cache

    def get_config(self):
        return super().get_config() | self.config


@keras.saving.register_keras_serializable(package="genlib")
class GPT(LanguageModel):
    """A transformer decoder that trains under plain ``fit`` on (tokens, next tokens).

    tokenizer: what turns text into tokens and back (``tokenizers``). num_layers, num_heads,
    model_dim: the sizes; model_dim is a multiple of 2 · num_heads. context_length: the most tokens
    that it reads at once. dropout: share of a block's additions that training drops. positions:
    "rotary" or "learned". seed: of the first weights and of dropout. Raises ``UserError`` for sizes
    that do not fit.
    """

    def __init__(
        self,
        tokenizer,
        num_layers=4,
        num_heads=4,
        model_dim=128,
        context_length=64,
        dropout=0.0,
        positions="rotary",
        seed=0,
    ):
        super().__init__(tokenizer, context_length)
        check_choice("positions", positions, POSITIONS)
        if model_dim % (2 * num_heads):
            raise UserError(
                f"model_dim={model_dim} does not fit num_heads={num_heads}; give a multiple of "
                f"{2 * num_heads}."
            )
        keras.utils.set_random_seed(seed)
        self.num_layers, self.num_heads, self.model_dim = num_layers, num_heads, model_dim
        self.dropout, self.positions, self.seed = dropout, positions, seed
        self.embedding = layers.Embedding(self.vocab_size, model_dim, name="embedding")
        self.place = None
        if positions == "learned":
            self.place = layers.Embedding(context_length, model_dim, name="position_embedding")
        rotary = positions == "rotary"
        self.blocks = [
            Block(model_dim, num_heads, rotary, dropout, name=f"block_{i}")
            for i in range(num_layers)
        ]
        self.norm = layers.RMSNormalization(name="norm")
        self(np.zeros((1, 2), "int32"))  # builds the weights

    def call(self, tokens, training=False):
        """Tokens (batch, time) → logits of the next one (batch, time, vocab_size)."""
        x = self.embed(tokens)
        for block in self.blocks:
            x, _ = block(x, training=training)
        return self.read_out(x)

    def embed(self, tokens, position=0):
        """Tokens (batch, time) → vectors (batch, time, model_dim)."""
        x = self.embedding(tokens)
        if self.place is not None:
            x = x + self.place(position + ops.arange(tokens.shape[1]))
        return x

    def read_out(self, x):
        """Vectors → logits, by the same matrix that turns tokens into vectors."""
        return ops.matmul(self.norm(x), ops.transpose(self.embedding.embeddings))

    def empty_cache(self, batch):
        """Room for keys and values: (2 · num_layers, batch, heads, context, head_dim)."""
        head_dim = self.model_dim // self.num_heads
        return np.zeros(
            (2 * self.num_layers, batch, self.num_heads, self.context_length, head_dim), "float32"
        )

    def next_logits(self, tokens, position, cache):
        """Logits (batch, vocab_size) after the tokens (batch,) at ``position``, and the filled
        cache: a list of keys, values, keys, values, … for each block."""
        x, filled = self.embed(tokens[:, None], position), []
        for i, block in enumerate(self.blocks):
            x, pair = block(x, cache=(cache[2 * i], cache[2 * i + 1]), position=position)
            filled += pair
        return self.read_out(x)[:, 0], filled

    def get_config(self):
        """What Keras saves."""
        names = ("num_layers", "num_heads", "model_dim", "context_length", "dropout", "positions")
        config = {name: getattr(self, name) for name in (*names, "seed")}
        return config | {"tokenizer": keras.saving.serialize_keras_object(self.tokenizer)}


def load_gpt(name="gpt_shakespeare"):
    """Return a GPT that ships with the course, trained. Raises ``UserError`` if it is damaged."""
    return checkpoints.load(name, lambda **config: GPT.from_config(config))
