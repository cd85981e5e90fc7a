"""What every neural language model of the course does: a loss, a score for a text, generation.

A model says with ``call`` how tokens become logits, and with ``empty_cache`` and ``next_logits``
how it reads one token more.
"""

import numpy as np

import genlib.models.tokenizers  # noqa: F401  (registers the tokenizers that a saved model names)
from genlib import UserError, check_whole
from genlib.models.blocks import named_options
from genlib.models.decoding import check_controls, choose_token, filter_logits, penalise
from genlib.training.backend import compiled, keras

ops = keras.ops
STREAMED = 8  # tokens between two prints


class Screen:
    """Prints a text as its tokens come."""

    def __init__(self, tokenizer):
        self.tokenizer, self.shown = tokenizer, ""

    def show(self, tokens, whole=True):
        """Print what ``tokens``, all so far, add. whole: hold back a character not yet complete."""
        text = self.tokenizer.decode(tokens)
        text = text.rstrip("�") if whole else text
        print(text[len(self.shown) :], end="", flush=True)
        self.shown = text


class TextModel:
    """What every model of text does, once it can

    - score: ``cross_entropy(text, …)`` gives the nats of its tokens;
    - continue: ``_extend(given, count, controls, seed, screen)`` gives ``count`` new tokens for
      each row of ``given``, and shows the first row's on the ``screen``, unless that is None.

    It has a ``tokenizer``, and reads ``context_length`` tokens at once.
    """

    def perplexity(self, text, **options):
        """e to the mean nats a token: as if the next token were one of so many, equally likely."""
        return float(np.exp(self.cross_entropy(text, **options).mean()))

    def bits_per_character(self, text, **options):
        """Bits for the whole text over its characters: comparable between tokenizers."""
        return float(self.cross_entropy(text, **options).sum() / np.log(2) / len(text))

    @named_options
    def generate(
        self,
        prompts="",
        n_tokens=200,
        *,
        temperature=1.0,
        top_k=None,
        top_p=1.0,
        min_p=0.0,
        repetition_penalty=1.0,
        seed=0,
        stream=False,
    ):
        """Continue a text, or each of a list of texts. Returns the text with what was added.

        prompts: a text, or a list of texts, of at most ``context_length`` tokens; an empty one is
        read as a line break. n_tokens: how many are added. The controls are those of ``decoding``;
        repetition counts within the window. The same seed gives the same texts. stream: print the
        first text as it grows.

        Past the window of a network: when its ``context_length`` tokens are full, the older half is
        forgotten and the later half is read again, from position 0. Raises ``UserError`` for a
        control out of range, and for a prompt that is too long or has unknown characters.
        """
        check_controls(temperature, top_k, top_p, min_p, repetition_penalty)
        check_whole("n_tokens", n_tokens, 1)
        texts = [prompts] if isinstance(prompts, str) else prompts
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"prompts={prompts!r} is not possible; give a text or a list of texts.")
        if not texts:
            return []
        given = [self._read(text) for text in texts]
        controls = np.float32([temperature, top_k or 0, top_p, min_p, repetition_penalty])
        screen = Screen(self.tokenizer) if stream else None
        rows = self._extend(given, n_tokens, controls, seed, screen)
        if stream:
            screen.show(rows[0], whole=False)
        written = [text + self.tokenizer.decode(row) for text, row in zip(texts, rows, strict=True)]
        return written[0] if isinstance(prompts, str) else written

    def _read(self, prompt):
        tokens = self.tokenizer.encode(prompt or "\n")
        if len(tokens) > self.context_length:
            raise UserError(
                f"the prompt has {len(tokens)} tokens; this model reads {self.context_length} at "
                "most: shorten it."
            )
        return tokens


class LanguageModel(TextModel, keras.Model):
    """The next token from those before it. It trains under plain ``fit`` on (tokens, next tokens).

    Both are int32 (batch, time). The loss is in nats a token; targets below 0 do not count in it.
    tokenizer: what turns text into tokens and back (``tokenizers``). context_length: the most
    tokens that it reads at once.
    """

    def __init__(self, tokenizer, context_length):
        super().__init__()
        self.tokenizer, self.vocab_size = tokenizer, tokenizer.vocab_size
        self.context_length = context_length
        self.tracker = keras.metrics.Mean("loss")
        self.functions = {}  # compiled

    @property
    def metrics(self):
        """The loss over an epoch, in nats a token."""
        return [self.tracker]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean negative log-likelihood of the targets that are 0 or more."""
        counted = ops.cast(y >= 0, "float32")
        nats = keras.losses.sparse_categorical_crossentropy(
            ops.maximum(y, 0), y_pred, from_logits=True
        )
        loss = ops.sum(nats * counted) / ops.maximum(ops.sum(counted), 1.0)
        self.tracker.update_state(loss, sample_weight=ops.sum(counted))
        return loss

    def _extend(self, given, count, controls, seed, screen):
        batch, context = len(given), self.context_length
        rngs = [np.random.default_rng([seed, row]) for row in range(batch)]
        known = lengths = np.array([len(row) for row in given], "int32")
        window = np.zeros((batch, context + 1), "int32")
        for line, row in zip(window, given, strict=True):
            line[: len(row)] = row
        run = self._loop(batch, filtered=any(controls[1:4] != (0, 1, 0)))
        past, total = window[:, :0], lengths.max() + count
        while True:
            uniform = np.stack([rng.random(context, "float32") for rng in rngs])
            seen, cache = np.zeros((batch, self.vocab_size), bool), self.empty_cache(batch)
            end = min(context, total - past.shape[1] - 1)
            pace = STREAMED if screen else context
            for first in range(0, end, pace):
                last = min(end, first + pace)
                window, seen, cache = run(
                    first, last, known, uniform, controls, window, seen, cache
                )
                if screen:
                    row = np.append(past[0], np.asarray(window)[0, : max(last + 1, known[0])])
                    screen.show(row[lengths[0] : lengths[0] + count])
            window = np.array(window)
            if past.shape[1] + context + 1 >= total:
                break
            kept = max(1, context // 2)
            past = np.concatenate([past, window[:, : context + 1 - kept]], axis=1)
            window[:, :kept] = window[:, context + 1 - kept :]
            known = np.full_like(lengths, kept)
        rows = np.concatenate([past, window], axis=1)
        return [row[n : n + count] for row, n in zip(rows, lengths, strict=True)]

    def _loop(self, batch, filtered):
        """The compiled loop of ``generate``: one token of each row a step, all in one graph.

        (first and last position, known (batch,): how many tokens of a row are given, uniform
        (batch, context), controls (5,), window (batch, context + 1), seen (batch, vocab_size),
        cache) → window, seen and cache, filled up to the last position.
        """
        if (batch, filtered) in self.functions:
            return self.functions[batch, filtered]

        def run(first, last, known, uniform, controls, window, seen, cache):
            temperature, top_k, top_p, min_p, penalty = ops.unstack(controls, 5)

            def step(position, window, seen, *cache):
                tokens = ops.take(window, position, axis=1)
                logits, cache = self.next_logits(tokens, position, cache)
                seen = ops.logical_or(seen, ops.one_hot(tokens, self.vocab_size, dtype="bool"))
                logits = penalise(logits, seen, penalty) / temperature
                if filtered:
                    logits = filter_logits(logits, top_k, top_p, min_p)
                drawn = choose_token(logits, ops.take(uniform, position, axis=1))
                given = ops.take(window, position + 1, axis=1)
                new = ops.where(position + 1 < known, given, drawn)
                window = ops.slice_update(window, (0, position + 1), new[:, None])
                return position + 1, window, seen, *cache

            state = (first, window, seen, *ops.unstack(cache, self.empty_cache(batch).shape[0]))
            _, window, seen, *cache = ops.while_loop(lambda p, *_: p < last, step, state)
            return window, seen, ops.stack(cache)

        context = self.context_length
        shapes = [(), (), (batch,), (batch, context), (5,), (batch, context + 1)]
        shapes += [(batch, self.vocab_size), self.empty_cache(batch).shape]
        kinds = ["int32", "int32", "int32", "float32", "float32", "int32", "bool", "float32"]
        signature = list(zip(shapes, kinds, strict=True))
        self.functions[batch, filtered] = compiled(run, self.variables, signature, xla=True)
        return self.functions[batch, filtered]

    def cross_entropy(self, text, stride=None):
        """Nats of each token of ``text`` but the first, given those before it: NumPy (n − 1,).

        Windows of ``context_length`` tokens start every ``stride`` tokens (default: one after the
        other). Each token is counted once, in the window where it sees most: with a smaller stride
        a token sees more, and the estimate is lower and takes longer. Raises ``UserError`` for
        another stride, and for a text without a second token.
        """
        tokens, context = self.tokenizer.encode(text), self.context_length
        stride = context if stride is None else stride
        if not 1 <= stride <= context or len(tokens) < 2:
            raise UserError(
                f"stride={stride} with a text of {len(tokens)} tokens is not possible; the stride "
                f"goes from 1 to {context}, and the text needs 2 tokens."
            )
        starts = np.arange(0, max(1, len(tokens) - 1 - context + stride), stride)
        index = np.minimum(starts[:, None] + np.arange(context + 1), len(tokens) - 1)
        windows = tokens[index]
        fresh = np.ones((len(starts), context), bool)
        fresh[1:, : context - stride] = False  # counted in the window before
        fresh &= starts[:, None] + np.arange(context) < len(tokens) - 1
        return np.concatenate(
            [self._nats(windows[i : i + 32])[fresh[i : i + 32]] for i in range(0, len(windows), 32)]
        )

    def _nats(self, windows):
        if "nats" not in self.functions:

            def nats(windows):
                return keras.losses.sparse_categorical_crossentropy(
                    windows[:, 1:], self(windows[:, :-1], training=False), from_logits=True
                )

            signature = [((None, self.context_length + 1), "int32")]
            self.functions["nats"] = compiled(nats, self.variables, signature)
        return ops.convert_to_numpy(self.functions["nats"](windows))

    @classmethod
    def from_config(cls, config):
        """The model of a saved configuration, the tokenizer included."""
        tokenizer = keras.saving.deserialize_keras_object(config["tokenizer"])
        return cls(**config | {"tokenizer": tokenizer})
