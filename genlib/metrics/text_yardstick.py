"""Generated texts measured beside held-out ones: each number with its floor and its interval."""

from collections import Counter

import numpy as np
import sacrebleu
from scipy import stats

from genlib import UserError, metrics
from genlib.runs.results import Result

MIN_TEXTS = 20  # below this, an interval says nothing
ORDER = 4  # BLEU's longest n-grams
NAMES = {
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "self_bleu": "self-BLEU",
    "bleu": "BLEU",
    "longest_overlap": "longest overlap",
    "bits_per_character": "bits per character",
}


def measure_texts(texts, reference_texts, training_text=None, judge=None, split=str.split, seed=0):
    """Measure generated texts, and as many held-out real ones for the floor: {name: ``Result``}.

    texts: generated, a list of strings. reference_texts: real ones that no model was trained on.
    training_text: one string; with it, longest_overlap. judge: a model with ``cross_entropy``, not
    trained on either; with it, bits_per_character. split: what makes words of a text; ``list`` for
    scripts without spaces. seed: of what is drawn, here and in the bootstrap.

    - distinct_1, distinct_2: 0 to 1. self_bleu, bleu: 0 to 100.
    - longest_overlap: characters of a text that stand in the training text, the median over texts.
    - bits_per_character: the perplexity under the judge, in bits. Each text is read on its own, and
      its first token, which has nothing before it, costs nothing.

    Both sides are cut to equal amounts, since all of these depend on them. n is the smaller number
    of texts; of the other side, n are drawn. Sorted by length, the two texts of a rank are cut to
    the shorter one: in words for what counts words, in characters for the last two.

    ``floor`` is the same number for the real texts. The references of bleu are half of those; the
    other half against them is its floor, which can be compared because the number of texts that
    are scored does not matter to BLEU, only that of the references does.

    The interval, 95%, is that of the number expected of n such texts (for bleu: against these
    references). A text drawn twice would look like a lack of variety, so it is the jackknife's; for
    the median, which has no jackknife, the bootstrap's over texts. In simulations, distinct-n and
    self-BLEU's were 1.2 to 1.7 times as wide as needed. Too narrow are those of self-BLEU among few
    texts some of which are copies, and of a BLEU that hangs on a handful of shared four-word runs.

    Raises ``UserError`` for fewer than 20 texts on a side, none or texts that are not strings, an
    empty text, and a text of fewer than four words after the cut.
    """
    _check("texts", texts)
    _check("reference_texts", reference_texts)
    rng, n = np.random.default_rng(seed), min(len(texts), len(reference_texts))
    drawn, real_drawn = (
        [side[i] for i in rng.permutation(len(side))[:n]] for side in (texts, reference_texts)
    )
    sides = _cut([split(text) for text in drawn], [split(text) for text in real_drawn])
    shortest = min(map(len, sides[0]))
    if shortest < ORDER:
        raise UserError(
            f"a text has {shortest} words after the cut to equal lengths, and {ORDER} are needed: "
            "leave short texts out, or pass split=list for a script without spaces."
        )
    found = {
        "distinct_1": _measure(lambda words: distinct_without_each(words, 1), *sides, 1),
        "distinct_2": _measure(lambda words: distinct_without_each(words, 2), *sides, 1),
        "self_bleu": _measure(self_bleu_without_each, *sides, 100),
    }
    by = dict.fromkeys(found, "counting")

    pool, rest = sides[1][::2], sides[1][1::2]  # sorted by length: the halves are alike
    counts = [metrics.bleu_counts(words, pool) for words in (sides[0], rest)]
    found["bleu"] = _measure(lambda rows: _without_each(metrics.corpus_bleu, rows), *counts, 100)
    by["bleu"] = f"sacrebleu {sacrebleu.__version__}, {len(pool)} references"

    sides = _cut(drawn, real_drawn)
    if training_text is not None:
        lengths = [
            np.array([metrics.longest_overlap(text, training_text) for text in side])
            for side in sides
        ]
        found["longest_overlap"] = _medians(*lengths, rng)
        by["longest_overlap"] = f"search in {len(training_text):,} characters"
    if judge is not None:
        bits = [np.array([(_bits(judge, text), len(text)) for text in side]) for side in sides]
        found["bits_per_character"] = _measure(lambda rows: _without_each(_ratio, rows), *bits)
        by["bits_per_character"] = type(judge).__name__
    return {
        key: Result(NAMES[key], float(value), n, float(floor), interval, by[key])
        for key, (value, floor, interval) in found.items()
    }


def _check(name, texts):
    if isinstance(texts, str | None) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{name} is not a list of strings; give one string a text.")
    if len(texts) < MIN_TEXTS:
        raise UserError(
            f"{name} has {len(texts)} texts; an interval needs at least {MIN_TEXTS}, give more."
        )
    empty = [i for i, text in enumerate(texts) if not text.strip()]
    if empty:
        raise UserError(f"{name}[{empty[0]}] is empty; leave empty texts out.")


def _cut(side, other):
    """Both sorted by length, and each two of a rank cut to the shorter one's length."""
    pairs = list(zip(sorted(side, key=len), sorted(other, key=len), strict=True))
    return [a[: len(b)] for a, b in pairs], [b[: len(a)] for a, b in pairs]


def distinct_without_each(words, n):
    """(distinct-n of all texts, distinct-n without each (texts,)). words: those of each text."""
    counters = metrics.count_ngrams(words, n)[-1]
    totals = np.array([counter.total() for counter in counters])
    texts_with = Counter(gram for counter in counters for gram in counter)
    own = np.array([sum(texts_with[gram] == 1 for gram in counter) for counter in counters])
    different = len(texts_with)
    return different / totals.sum(), (different - own) / (totals.sum() - totals)


def self_bleu_without_each(words):
    """(self-BLEU of all texts, self-BLEU without each (texts,)). words: those of each text.

    A text that leaves takes its own score along, and what it alone had in common with others. The
    others keep their brevity penalties: these are near 1 among texts of like length.
    """
    hits, totals, brevity, lost = metrics.compare_with_others(words, ORDER)
    scores = metrics.sentence_bleu(hits, totals, brevity)
    rest = scores.sum() - scores
    if lost:
        text, gone = np.transpose(list(lost))
        fewer = hits[text] - np.array(list(lost.values()))
        now = metrics.sentence_bleu(fewer, totals[text], brevity[text])
        np.add.at(rest, gone, now - scores[text])
    return scores.mean(), rest / (len(words) - 1)


def _without_each(statistic, rows):
    """(the statistic of all rows, the statistic without each): one that adds rows up."""
    return statistic(rows), np.array([statistic(np.delete(rows, i, 0)) for i in range(len(rows))])


def _measure(measure, side, real, highest=np.inf):
    """(value, floor, interval) by a function that gives a value and the values without each."""
    (value, without), (floor, _) = measure(side), measure(real)
    return value, floor, jackknife(value, without, highest)


def jackknife(value, without, highest):
    """95% interval of a statistic from its values without each one of n texts (Tukey 1958).

    The variance is (n − 1)/n Σ (θ₋ᵢ − mean)², with Student's t; cut to 0 … ``highest``.
    """
    n = len(without)
    error = np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))
    reach = stats.t.ppf(0.975, n - 1) * error
    return float(max(value - reach, 0)), float(min(value + reach, highest))


def _medians(side, real, rng, draws=500):
    """(value, floor, interval) of the median of a number a text, by bootstrap over texts."""
    values = np.median(rng.choice(side, (draws, len(side))), axis=1)
    low, high = np.percentile(values, [2.5, 97.5])
    return np.median(side), np.median(real), (float(low), float(high))


def _bits(judge, text):
    return judge.cross_entropy(text).sum() / np.log(2)


def _ratio(rows):
    bits, characters = rows.sum(0)
    return bits / characters
