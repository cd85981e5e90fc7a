"""A recurrent language model: one state, renewed by every token (Hochreiter & Schmidhuber 1997)."""

import numpy as np

from genlib.data import checkpoints
from genlib.models.language import LanguageModel
from genlib.training.backend import keras

layers, ops = keras.layers, keras.ops


@keras.saving.register_keras_serializable(package="genlib")
class LSTMModel(LanguageModel):
    """Embedding, one LSTM, logits. It trains under plain ``fit`` on (tokens, next tokens).

    units: numbers in each of its two states. embedding_dim: numbers a token is turned into.
    context_length: tokens of a training window; when one is full, ``generate`` reads its later half
    again from an empty state. dropout: share of the LSTM's output that training drops. seed: of the
    first weights.
    """

    def __init__(
        self, tokenizer, units=256, embedding_dim=64, context_length=64, dropout=0.0, seed=0
    ):
        super().__init__(tokenizer, context_length)
        keras.utils.set_random_seed(seed)
        self.units, self.embedding_dim = units, embedding_dim
        self.dropout, self.seed = dropout, seed
        self.embedding = layers.Embedding(self.vocab_size, embedding_dim, name="embedding")
        self.lstm = layers.LSTM(units, return_sequences=True, name="lstm")
        self.drop = layers.Dropout(dropout)
        self.read_out = layers.Dense(self.vocab_size, name="read_out")
        self(np.zeros((1, 2), "int32"))  # builds the weights

    def call(self, tokens, training=False):
        """Tokens (batch, time) → logits of the next one (batch, time, vocab_size)."""
        x = self.lstm(self.embedding(tokens))
        return self.read_out(self.drop(x, training=training))

    def empty_cache(self, batch):
        """The states before the first token: (2, batch, units)."""
        return np.zeros((2, batch, self.units), "float32")

    def next_logits(self, tokens, position, cache):
        """Logits (batch, vocab_size) after one more token each, (batch,), and the new states."""
        x, states = self.lstm.cell(self.embedding(tokens), cache)
        return self.read_out(x), states

    def get_config(self):
        """What Keras saves."""
        names = ("units", "embedding_dim", "context_length", "dropout", "seed")
        config = {name: getattr(self, name) for name in names}
        return config | {"tokenizer": keras.saving.serialize_keras_object(self.tokenizer)}


def load_lstm(name="lstm_shakespeare"):
    """Return an LSTM that ships with the course, trained."""
    return checkpoints.load(name, lambda **config: LSTMModel.from_config(config))
