"""N-grams of words, counted; and what is made of the counts: the numbers of all texts, and those
without each one, for the jackknife."""

from collections import Counter, defaultdict
from heapq import nlargest

import numpy as np
from sacrebleu.metrics import BLEU

ORDER = 4  # BLEU's longest n-grams


def _ngrams(words, n):
    return zip(*(words[i:] for i in range(n)), strict=False)


def count_ngrams(words, n):
    """Counters of the 1-grams, 2-grams … n-grams of each text: [k − 1][text]. words: their words"""
    return [[Counter(_ngrams(text, k)) for text in words] for k in range(1, n + 1)]


def distinct_without_each(words, n):
    """(distinct-n of all texts, distinct-n without each (texts,)). words: those of each text."""
    counters = count_ngrams(words, n)[-1]
    totals = np.array([counter.total() for counter in counters])
    texts_with = Counter(gram for counter in counters for gram in counter)
    own = np.array([sum(texts_with[gram] == 1 for gram in counter) for counter in counters])
    different = len(texts_with)
    return different / totals.sum(), (different - own) / (totals.sum() - totals)


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


def compare_with_others(words):
    """What self-BLEU is made of: hits, totals (texts, 4), brevity (texts,), and what would be lost.

    words: those of each text. The last is {(text, another): hits (4,) of the text that only the
    other one holds}: with it, self-BLEU without any one text is known without counting again.
    """
    hits, totals = np.zeros((2, len(words), ORDER))
    lost = defaultdict(lambda: np.zeros(ORDER))
    for k, counters in enumerate(count_ngrams(words, ORDER)):
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


def self_bleu_without_each(words):
    """(self-BLEU of all texts, self-BLEU without each (texts,)). words: those of each text.

    A text that leaves takes its own score along, and what it alone had in common with others. The
    others keep their brevity penalties: these are near 1 among texts of like length.
    """
    hits, totals, brevity, lost = compare_with_others(words)
    scores = sentence_bleu(hits, totals, brevity)
    rest = scores.sum() - scores
    if lost:
        text, gone = np.transpose(list(lost))
        fewer = hits[text] - np.array(list(lost.values()))
        now = sentence_bleu(fewer, totals[text], brevity[text])
        np.add.at(rest, gone, now - scores[text])
    return scores.mean(), rest / (len(words) - 1)


def _closest(length, lengths):
    return min(lengths, key=lambda other: (abs(other - length), other))


def bleu_counts(words, references):
    """What corpus BLEU adds up: (texts, 10) integers. words, references: words of each text.

    A line has the text's length, that of the closest reference, its n-grams of each order that a
    reference has too (each as often as in the reference that has most), and all its n-grams.
    """
    pools = [Counter() for _ in range(ORDER)]
    for pool, counters in zip(pools, count_ngrams(references, ORDER), strict=True):
        for counter in counters:
            for gram, count in counter.items():
                pool[gram] = max(count, pool[gram])
    counted, lengths = count_ngrams(words, ORDER), {len(text) for text in references}
    hits = [[(c & pool).total() for c in row] for row, pool in zip(counted, pools, strict=True)]
    totals = [[c.total() for c in row] for row in counted]
    closest = [_closest(len(text), lengths) for text in words]
    return np.transpose([list(map(len, words)), closest, *hits, *totals])


def corpus_bleu(counts):
    """BLEU, 0 to 100, of texts with these ``bleu_counts``, added up and scored by sacrebleu."""
    length, closest, *rest = map(int, counts.sum(0))
    hits, totals = rest[:ORDER], rest[ORDER:]
    return BLEU.compute_bleu(hits, totals, length, closest, smooth_method="exp").score
