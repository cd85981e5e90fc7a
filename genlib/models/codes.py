"""A GPT that writes codes after words: the codes of an image after its label, or after a caption.

The second stage of a VQ-VAE (van den Oord et al. 2017, section 3.2) and of text-to-image models
such as DALL·E (Ramesh et al. 2021), in one class.
"""

import numpy as np

from genlib import UserError, check_whole
from genlib.data import checkpoints
from genlib.models.blocks import in_batches, named_options
from genlib.models.decoding import check_controls
from genlib.models.gpt import GPT
from genlib.training.backend import keras
from genlib.training.batches import Shuffled

ops = keras.ops
BATCH = 64  # rows that are drawn, or scored, at once


@keras.saving.register_keras_serializable(package="genlib")
class CodeTokens:
    """The tokens of a ``CodeGPT``: the codes from 0, and after them the words.

    num_codes: different codes; length: codes in a row; num_words: different words, of which each
    row begins with ``prefix``. Raises ``UserError`` for fewer than one of any.
    """

    def __init__(self, num_codes, length, num_words=1, prefix=1):
        sizes = {"num_codes": num_codes, "length": length, "num_words": num_words, "prefix": prefix}
        for name, value in sizes.items():
            check_whole(name, value, 1)
            setattr(self, name, value)

    @property
    def vocab_size(self):
        """How many tokens there are."""
        return self.num_codes + self.num_words

    def rows(self, words, codes=None):
        """Words (n, prefix), or (n,) where the prefix is one word, and codes (n, …) if given →
        tokens, int32 (n, prefix + length). Raises ``UserError`` for what does not fit."""
        words = np.asarray(words).reshape(len(words), -1)
        if words.shape[1] != self.prefix or words.min() < 0 or words.max() >= self.num_words:
            raise UserError(
                f"the words have shape {words.shape} and go from {words.min()} to {words.max()}; a "
                f"row begins with {self.prefix} of them, from 0 to {self.num_words - 1}."
            )
        tokens = (words + self.num_codes).astype("int32")
        if codes is None:
            return tokens
        codes = np.asarray(codes).reshape(len(codes), -1)
        low, high = codes.min(), codes.max()
        if codes.shape != (len(words), self.length) or low < 0 or high >= self.num_codes:
            raise UserError(
                f"the codes have shape {codes.shape} and go from {low} to {high}; for {len(words)} "
                f"rows, {self.length} each are needed, from 0 to {self.num_codes - 1}."
            )
        return np.concatenate([tokens, codes.astype("int32")], axis=1)

    def get_config(self):
        """What Keras saves."""
        names = ("num_codes", "length", "num_words", "prefix")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config):
        """The tokens of a saved configuration."""
        return cls(**config)


class CodeBatches(Shuffled):
    """Rows of words and codes in shuffled batches (all tokens but the last, all but the first).

    tokens: a ``CodeTokens``. Both parts of a batch are int32 (batch_size, prefix + length − 1); the
    words themselves are not to be predicted: their targets are −1.
    """

    rows = "rows of codes"

    def __init__(self, tokens, words, codes, batch_size, seed=0):
        rows = tokens.rows(words, codes)
        targets = rows[:, 1:].copy()
        targets[:, : tokens.prefix - 1] = -1
        self.context_length = rows.shape[1] - 1
        super().__init__([rows[:, :-1], targets], batch_size, seed)


@keras.saving.register_keras_serializable(package="genlib")
class CodeGPT(GPT):
    """A transformer decoder that trains under plain ``fit`` on ``CodeBatches``.

    tokenizer: a ``CodeTokens``. num_layers, num_heads, model_dim, dropout, seed: as of ``GPT``. It
    learns a vector for each place, so that it knows which code is above.
    """

    def __init__(self, tokenizer, num_layers=4, num_heads=4, model_dim=128, dropout=0.0, seed=0):
        context = tokenizer.prefix + tokenizer.length - 1
        sizes = (num_layers, num_heads, model_dim, context)
        super().__init__(tokenizer, *sizes, dropout, positions="learned", seed=seed)

    def read_out(self, x):
        """Vectors → logits: those of ``GPT``, and no chance for words."""
        codes = ops.arange(self.vocab_size) < self.tokenizer.num_codes
        return ops.where(codes, super().read_out(x), -1e9)

    @named_options
    def generate(self, words, *, temperature=1.0, top_k=None, top_p=1.0, seed=0):
        """Draw codes after words (n, prefix), or (n,): int32 NumPy (n, length).

        The controls are those of ``decoding``. The same seed gives the same codes, and more rows
        begin with them. Raises ``UserError`` for what is out of range.
        """
        check_controls(temperature, top_k, top_p, min_p=0.0, repetition_penalty=1.0)
        controls = np.float32([temperature, top_k or 0, top_p, 0.0, 1.0])
        given, drawn = self.tokenizer.rows(words), []
        # Always as many at once: one compiled loop serves every n.
        padded = np.concatenate([given, np.repeat(given[:1], -len(given) % BATCH, axis=0)])
        for start in range(0, len(padded), BATCH):
            rows = padded[start : start + BATCH]
            drawn += self._extend(rows, self.tokenizer.length, controls, [seed, start], None)
        return np.stack(drawn[: len(given)])

    def cross_entropy(self, words, codes):
        """Nats of each code, given the words and the codes before it: NumPy (n, length)."""
        tokens = self.tokenizer.rows(words, codes)
        nats = in_batches(lambda rows: [self._nats(rows)], tokens, size=BATCH)[0]
        return nats[:, self.tokenizer.prefix - 1 :]

    def get_config(self):
        """What Keras saves."""
        config = super().get_config()
        del config["context_length"], config["positions"]  # follow from the tokens; fixed
        return config


def build_codes(num_codes, length, num_words=1, prefix=1, **sizes):
    """A ``CodeGPT`` for such ``CodeTokens``, its first weights a function of ``seed``; sizes: the
    other options of ``CodeGPT``."""
    return CodeGPT(CodeTokens(num_codes, length, num_words, prefix), **sizes)


def load_codes(name="codes_mnist"):
    """Return a shipped ``CodeGPT``, which writes the codes of ``vq_mnist``. Raises ``UserError`` if
    its file is not intact."""
    return checkpoints.load(name, build_codes)
