"""How well a text is predicted, and how repetitive generated texts are."""

from collections import Counter, defaultdict
from functools import cache
from heapq import nlargest

import numpy as np
from sacrebleu.metrics import BLEU

from genlib import UserError
from genlib.runs.results import Result

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


def count_ngrams(words, n):
    """Counters of the 1-grams, 2-grams … n-grams of each text: [k − 1][text]. words: their words"""
    return [[Counter(_ngrams(text, k)) for text in words] for k in range(1, n + 1)]


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
    of an n-gram is looked up (the three highest counts suffice) instead of counted for each text.
    """
    words = [split(text) for text in texts]
    if len(words) < 2 or not all(words):
        raise UserError(f"self-BLEU needs two texts or more, none of them empty; got {len(words)}.")
    return float(sentence_bleu(*compare_with_others(words, n)[:3]).mean())


def sentence_bleu(hits, totals, brevity):
    """BLEU of each text, 0 to 100, as sacrebleu's ``sentence_bleu`` with its "effective order".

    hits, totals: n-grams of each order that the references have too, and all, (texts, orders).
    brevity: the penalty of each text, 0 to 1, (texts,). Orders longer than the text do not count;
    each order without a hit gets half the precision of the one before (Chen & Cherry 2014, 3).
    """
    counts, missed = totals > 0, (totals > 0) & (hits == 0)
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=1), hits)
    logs = np.log(np.where(counts, smoothed, 1) / np.maximum(totals, 1))
    scores = 100 * brevity * np.exp(logs.sum(1) / counts.sum(1))
    return np.where(hits.any(1), scores, 0.0)


def compare_with_others(words, n=4):
    """What self-BLEU is made of: hits, totals (texts, n), brevity (texts,), and what would be lost.

    words: those of each text. The last is {(text, another): hits (n,) of the text that only the
    other one holds}: with it, self-BLEU without any one text is known without counting again.
    """
    counted = count_ngrams(words, n)
    hits, totals = np.zeros((2, len(words), n))
    lost = defaultdict(lambda: np.zeros(n))
    for k, counters in enumerate(counted):
        holders = defaultdict(list)
        for i, counter in enumerate(counters):
            totals[i, k] = counter.total()
            for gram, count in counter.items():
                holders[gram].append((count, i))
        highest = {gram: [*nlargest(3, held), (0, -1), (0, -1)] for gram, held in holders.items()}
        for i, counter in enumerate(counters):
            for gram, count in counter.items():
                (first, other), (second, _) = [top for top in highest[gram] if top[1] != i][:2]
                hits[i, k] += min(count, first)
                if min(count, first) > second:
                    lost[i, other][k] += min(count, first) - second
    lengths = [len(text) for text in words]
    times = Counter(lengths)
    others = {own: [m for m in times if m != own or times[own] > 1] for own in times}
    closest = np.array([_closest(length, others[length]) for length in lengths])
    return hits, totals, np.minimum(1, np.exp(1 - closest / lengths)), lost


def _closest(length, lengths):
    return min(lengths, key=lambda other: (abs(other - length), other))


def bleu_counts(words, references, n=4):
    """What corpus BLEU adds up: (texts, 2 + 2n) integers. words, references: words of each text.

    A line has the text's length, that of the closest reference, its n-grams of each order that a
    reference has too (each as often as in the reference that has most), and all its n-grams.
    """
    lengths = {len(text) for text in references}
    pools = [{} for _ in range(n)]
    for pool, counters in zip(pools, count_ngrams(references, n), strict=True):
        for counter in counters:
            for gram, count in counter.items():
                pool[gram] = max(count, pool.get(gram, 0))
    rows = [[len(text), _closest(len(text), lengths)] for text in words]
    counted = count_ngrams(words, n)
    for pool, counters in zip(pools, counted, strict=True):
        for row, counter in zip(rows, counters, strict=True):
            row.append(sum(min(count, pool.get(gram, 0)) for gram, count in counter.items()))
    for counters in counted:
        for row, counter in zip(rows, counters, strict=True):
            row.append(counter.total())
    return np.array(rows)


def corpus_bleu(counts):
    """BLEU, 0 to 100, of texts with these ``bleu_counts``, added up and scored by sacrebleu."""
    length, closest, *rest = map(int, counts.sum(0))
    hits, totals = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    return BLEU.compute_bleu(hits, totals, length, closest, smooth_method="exp").score


def bleu(texts, references, split=str.split):
    """Corpus BLEU of texts against a pool of references, each text against all, 0 to 100 (Papineni
    et al. 2002): how much of the texts, in runs of one to four words, some reference has too.

    It rises with the number of references: compare equal pools. The same number as sacrebleu's
    ``corpus_bleu`` with ``tokenize="none"`` on words between spaces, but the pool is counted once.
    split: what makes words of a text; ``list`` for scripts without spaces. Raises ``UserError``
    without references, or where no text has four words.
    """
    words, pool = ([split(text) for text in side] for side in (texts, references))
    longest = max(map(len, words), default=0)
    if longest < 4 or not pool:
        raise UserError(
            f"BLEU needs references and a text of at least 4 words; got {len(pool)} references, "
            f"and the longest text has {longest} words: give more, or split them otherwise."
        )
    return corpus_bleu(bleu_counts(words, pool))


def longest_overlap(text, training_text):
    """Characters of the longest passage of ``text`` that stands verbatim in ``training_text``.

    Only passages longer than the best so far are looked for. One whose later half is missing rules
    out all that hold this half. 1,000 characters in 1,000,000 take about 0.1 s.
    """
    missing = cache(lambda passage: passage not in training_text)  # texts may repeat themselves
    best = start = 0
    while (end := start + best + 1) <= len(text):
        middle = (start + end) // 2
        if missing(text[middle:end]):
            start = middle + 1
        elif missing(text[start:end]):
            start += 1
        else:
            best += 1
    return best
