"""Language models that count: the next token's distribution after the n − 1 before it."""

import numpy as np

from genlib import UserError, check_choice
from genlib.models.decoding import choose_token, filter_logits, penalise
from genlib.models.language import TextModel

SMOOTHINGS = ("witten-bell", "add-one")


def highest_order(vocab_size):
    """The most tokens that fit into one whole number of 63 bits, a token a digit."""
    return int(63 * np.log(2) / np.log(max(2, vocab_size)))


class NGram(TextModel):
    """Counts of token sequences of up to ``order`` tokens.

    tokenizer: of ``genlib.models.tokenizers``. order: n, from 1 to ``highest_order(vocab_size)``.
    smoothing: "witten-bell" mixes all orders up to n (Witten & Bell 1991), "add-one" adds 1 to each
    count (Laplace). Raises ``UserError`` for anything else.
    """

    context_length = np.inf  # a prompt of any length: the last order − 1 tokens count

    def __init__(self, tokenizer, order=5, smoothing="witten-bell"):
        check_choice("smoothing", smoothing, SMOOTHINGS)
        most = highest_order(tokenizer.vocab_size)
        if not 1 <= order <= most:
            raise UserError(
                f"order={order} is not possible with {tokenizer.vocab_size} tokens; give 1 to "
                f"{most}."
            )
        self.tokenizer, self.vocab_size = tokenizer, tokenizer.vocab_size
        self.order, self.smoothing = order, smoothing

    def fit(self, text):
        """Count. Each sequence is one number, with a token a digit, to be found by bisection."""
        tokens = self.tokenizer.encode(text).astype("int64")
        self.counts, self.totals, self.types = {}, {}, {}
        for n in range(1, self.order + 1):
            keys, counts = np.unique(self._keys(tokens, n), return_counts=True)
            self.counts[n] = keys, counts
            contexts, first = np.unique(keys // self.vocab_size, return_index=True)
            self.totals[n] = contexts, np.add.reduceat(counts, first)
            self.types[n] = contexts, np.diff(np.append(first, len(keys)))  # distinct followers
        return self

    def _keys(self, tokens, n):
        """The n tokens that end at each place from the (n − 1)th on, as numbers of base V."""
        keys = np.zeros(max(0, len(tokens) - n + 1), "int64")
        for i in range(n):
            keys = keys * self.vocab_size + tokens[i : i + len(keys)]
        return keys

    @staticmethod
    def _look_up(table, keys):
        known, values = table
        if not len(known):  # the text was shorter than such a sequence
            return np.zeros_like(keys)
        place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where(known[place] == keys, values[place], 0)

    def _refine(self, n, keys, p):
        """P(token | n − 1 before it) from p, that given one less, for the sequences ``keys``."""
        count = self._look_up(self.counts[n], keys)
        total = self._look_up(self.totals[n], keys // self.vocab_size)
        if self.smoothing == "add-one":
            return (count + 1) / (total + self.vocab_size)
        types = self._look_up(self.types[n], keys // self.vocab_size)
        mixed = (count + types * p) / np.maximum(total + types, 1)
        return np.where(total > 0, mixed, p)  # an unseen context says nothing

    def cross_entropy(self, text):
        """Nats of each token of ``text`` but the first, given those before it: NumPy (n − 1,).

        Raises ``UserError`` for a text without a second token.
        """
        tokens = self.tokenizer.encode(text).astype("int64")
        if len(tokens) < 2:
            raise UserError(f"the text needs 2 tokens to have a score; this one has {len(tokens)}.")
        p, most = np.full(len(tokens), 1 / self.vocab_size), min(self.order, len(tokens))
        for n in range(1, most + 1):  # the first tokens have few before them
            p[n - 1 :] = self._refine(n, self._keys(tokens, n), p[n - 1 :])
        return -np.log(p[1:])

    def distribution(self, context):
        """P(next token | context), NumPy (vocab_size,); context: tokens, of any number."""
        p = np.full(self.vocab_size, 1 / self.vocab_size)
        for n in range(1, min(self.order, len(context) + 1) + 1):
            key = self._keys(np.asarray(context[len(context) - n + 1 :], "int64"), n - 1)
            p = self._refine(n, key * self.vocab_size + np.arange(self.vocab_size), p)
        return p

    def _extend(self, given, count, controls, seed, screen):
        temperature, top_k, top_p, min_p, penalty = controls
        rows = []
        for i, start in enumerate(given):
            rng, tokens = np.random.default_rng([seed, i]), list(start)
            for _ in range(count):
                logits = np.log(self.distribution(tokens), dtype="float32")[None]
                seen = np.isin(np.arange(self.vocab_size), tokens)
                logits = penalise(logits, seen, penalty) / temperature
                logits = filter_logits(logits, top_k, top_p, min_p)
                tokens.append(int(choose_token(logits, rng.random(1, "float32"))[0]))
                if screen and i == 0:
                    screen.show(tokens[len(start) :])
            rows.append(tokens[len(start) :])
        return rows
