"""A generative pretrained transformer: tokens in, the distribution of the next token out.

A pre-norm decoder (Radford et al. 2019) whose one matrix serves for tokens in and out (Press & Wolf
2017); its generation keeps a cache of keys and values.
"""

import numpy as np

from genlib import UserError, checkpoints, choose
from genlib._backend import keras
from genlib.attention import Block
from genlib.language import LanguageModel

layers, ops = keras.layers, keras.ops
POSITIONS = ("rotary", "learned")


@keras.saving.register_keras_serializable(package="genlib")
class GPT(LanguageModel):
    """A transformer decoder that trains under plain ``fit`` on (tokens, next tokens).

    tokenizer: what turns text into tokens and back (``genlib.text``). num_layers, num_heads,
    model_dim: the sizes; model_dim is a multiple of 2 · num_heads. context_length: the most tokens
    that it reads at once. dropout: share of a block's additions that training drops. positions:
    "rotary" or "learned". seed: of the first weights and of dropout.
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
        choose("positions", positions, POSITIONS)
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
            x = block(x, training=training)
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
