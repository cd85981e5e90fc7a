"""How well a text is predicted, and how repetitive generated texts are."""

from collections import Counter

import numpy as np

from genlib import UserError
from genlib.metrics import Result

MIN_BLOCKS = 20  # below this, a bootstrap's interval is too narrow


def bits_per_character(model, text, by, bootstrap=200, block=500, seed=0, **options):
    """Bits per character of a text under a model, as a ``Result``, whose n counts characters.

    The interval is that of the mean over texts like this one: neighbours depend on each other, so
    whole blocks of ``block`` tokens are resampled, or twenty shorter ones of a short text. There is
    no floor: nobody knows the entropy of a language. options: of ``model.cross_entropy``.
    """
    nats, rng = model.cross_entropy(text, **options), np.random.default_rng(seed)
    if len(nats) < MIN_BLOCKS:
        raise UserError(
            f"an interval needs a text of more than {MIN_BLOCKS} tokens; this one has "
            f"{len(nats) + 1}, give a longer text."
        )
    value = nats.sum() / np.log(2) / len(text)
    blocks = max(MIN_BLOCKS, len(nats) // block)
    means = np.array([part.mean() for part in np.array_split(nats, blocks)])
    draws = rng.choice(means, (bootstrap, len(means))).mean(1) * value / means.mean()
    low, high = np.percentile(draws, [2.5, 97.5])
    interval = (float(low), float(high))
    return Result("bits per character", float(value), len(text), None, interval, by)


def _ngrams(words, n):
    return zip(*(words[i:] for i in range(n)), strict=False)


def distinct_n(texts, n=2, split=str.split):
    """Distinct word n-grams over all of them, 0 to 1 (Li et al. 2016, "A diversity-promoting
    objective function"). It falls as texts get longer or more: compare equal amounts of text.

    split: what makes words of a text; ``list`` for scripts without spaces.
    """
    grams = [gram for text in texts for gram in _ngrams(split(text), n)]
    if not grams:
        raise UserError(f"distinct-{n} needs texts of at least {n} words; give longer texts.")
    return len(set(grams)) / len(grams)


def self_bleu(texts, n=4, split=str.split):
    """Mean BLEU of each text against all others, 0 to 100 (Zhu et al. 2018): the higher, the more
    alike the texts. split: what makes words of a text; ``list`` for scripts without spaces.

    The same number as sacrebleu's ``sentence_bleu`` without tokenisation, but what the others have
    of an n-gram is looked up (the two highest counts suffice) instead of counted for each text.
    """
    words = [split(text) for text in texts]
    if len(words) < 2 or not all(words):
        raise UserError(f"self-BLEU needs two texts or more, none of them empty; got {len(words)}.")
    counted = [[Counter(_ngrams(text, k)) for text in words] for k in range(1, n + 1)]
    highest = [_two_highest(counters) for counters in counted]
    lengths = np.array([len(text) for text in words])
    scores = []
    for i, length in enumerate(lengths):
        precisions, smoothing = [], 1.0
        for counters, top in zip(counted, highest, strict=True):
            total = counters[i].total()
            if not total:
                break  # the text is shorter than this n: BLEU's "effective order"
            hits = sum(min(c, _among_others(top[gram], i)) for gram, c in counters[i].items())
            if not hits:
                smoothing *= 2  # Chen & Cherry (2014), their third method
            precisions.append(hits / total if hits else 1 / (smoothing * total))
        others = np.delete(lengths, i)
        closest = min(others, key=lambda other: (abs(other - length), other))
        brevity = min(1.0, np.exp(1 - closest / length))
        found = any(
            counted[0][i][gram] and _among_others(highest[0][gram], i) for gram in counted[0][i]
        )
        scores.append(100 * brevity * np.exp(np.mean(np.log(precisions))) if found else 0.0)
    return float(np.mean(scores))


def _two_highest(counters):
    """{n-gram: (highest count in one text, that text's number, second highest)}."""
    top = {}
    for i, counter in enumerate(counters):
        for gram, count in counter.items():
            first, owner, second = top.get(gram, (0, -1, 0))
            if count > first:
                top[gram] = count, i, first
            elif count > second:
                top[gram] = first, owner, count
    return top


def _among_others(top, i):
    first, owner, second = top
    return second if owner == i else first
