"""Tokenizers, which turn text into numbers and back."""

import numpy as np

from genlib import UserError
from genlib.training.backend import keras

IGNORED = -1  # a target that no loss counts


@keras.saving.register_keras_serializable(package="genlib")
class CharTokenizer:
    """A token a character: the vocabulary is what occurs in ``characters``, in Unicode's order."""

    def __init__(self, characters):
        self.characters = "".join(sorted(set(characters)))
        self.numbers = {character: i for i, character in enumerate(self.characters)}

    @property
    def vocab_size(self):
        """How many tokens there are."""
        return len(self.characters)

    def encode(self, text):
        """Text → int32 NumPy (n,). Raises ``UserError`` for a character that is not known."""
        try:
            return np.array([self.numbers[character] for character in text], "int32")
        except KeyError:
            strange = sorted(set(text) - set(self.characters))
            raise UserError(
                f"the characters {' '.join(map(repr, strange[:5]))} did not occur in the training "
                "text; leave them out, or train with tokenizer=bpe, which knows every character."
            ) from None

    def decode(self, tokens):
        """Tokens (n,) → text."""
        return "".join(self.characters[token] for token in np.asarray(tokens))

    def get_config(self):
        """What Keras saves."""
        return {"characters": self.characters}

    @classmethod
    def from_config(cls, config):
        """The tokenizer of a saved configuration."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="genlib")
class BPETokenizer:
    """Byte-pair encoding (Sennrich et al. 2016) of UTF-8 bytes (Radford et al. 2019).

    Text is bytes, so nothing is unknown; the pairs that occur most often in a training text are one
    token. ``BPETokenizer.train`` learns them; rules: the JSON of the ``tokenizers`` library.
    """

    def __init__(self, rules):
        from tokenizers import Tokenizer

        self.rules, self.tokenizer = rules, Tokenizer.from_str(rules)

    @classmethod
    def train(cls, text, vocab_size=512):
        """Learn from a text. vocab_size: 256 bytes and the most frequent pairs, 257 or more;
        raises ``UserError`` for fewer."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if vocab_size < 257:
            raise UserError(
                f"vocab_size={vocab_size} is too few; 256 tokens are the bytes, give 257 or more."
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
        return cls(tokenizer.to_str())

    @property
    def vocab_size(self):
        """How many tokens there are."""
        return self.tokenizer.get_vocab_size()

    def encode(self, text):
        """Text → int32 NumPy (n,)."""
        return np.array(self.tokenizer.encode(text).ids, "int32")

    def decode(self, tokens):
        """Tokens (n,) → text; bytes that are no whole character become �."""
        return self.tokenizer.decode(np.asarray(tokens).tolist(), skip_special_tokens=False)

    def get_config(self):
        """What Keras saves."""
        return {"rules": self.rules}

    @classmethod
    def from_config(cls, config):
        """The tokenizer of a saved configuration."""
        return cls(**config)


TOKENIZERS = {
    "characters": lambda text, vocab_size: CharTokenizer(text),
    "bpe": lambda text, vocab_size: BPETokenizer.train(text, vocab_size),
}
