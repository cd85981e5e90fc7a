"""Texts, each number with its sample size, and with a floor and an interval where there are any."""

from functools import cache, partial

import numpy as np
import sacrebleu

from genlib import UserError
from genlib.metrics import ngrams
from genlib.metrics.intervals import jackknife, percentiles
from genlib.runs.results import Result

MIN_BLOCKS = 20  # below this, a bootstrap's interval is too narrow
MIN_TEXTS = 20  # below this, an interval says nothing
# The name, whether higher is better, and whether it depends on the number of texts. Near the floor,
# the same number of real texts, all of them are at their best: a text can be too predictable too.
FACTS = {
    "distinct_1": ("distinct-1", True, True),
    "distinct_2": ("distinct-2", True, True),
    "self_bleu": ("self-BLEU", False, True),
    "bleu": ("BLEU", True, True),  # against held-out texts: likeness to real ones, no copying
    "longest_overlap": ("longest overlap", False, False),
    "bits_per_character": ("bits per character", None, False),
}


def bits_per_character(text, model, *, by, bootstrap=200, block=500, seed=0, **options):
    """Bits per character of a text under a model, as a ``Result``, whose n counts characters.

    The interval tells how far the number varies with the passages of *this* text: neighbours depend
    on each other, so whole blocks of ``block`` tokens are resampled, or twenty shorter ones of a
    short text, nats and characters together. Another scene or another author may lie outside. There
    is no floor: nobody knows the entropy of a language. by: the model's name. options: of
    ``model.cross_entropy``. Raises ``UserError`` for a text of 20 tokens or fewer.
    """
    nats, rng = model.cross_entropy(text, **options), np.random.default_rng(seed)
    if len(nats) < MIN_BLOCKS:
        raise UserError(
            f"an interval needs a text of more than {MIN_BLOCKS} tokens; this one has "
            f"{len(nats) + 1}, give a longer text."
        )
    value = nats.sum() / np.log(2) / len(text)
    blocks = max(MIN_BLOCKS, len(nats) // block)
    tokens = np.array_split(model.tokenizer.encode(text)[1:], blocks)
    lengths = np.array([len(model.tokenizer.decode(part)) for part in tokens])
    sums = np.array([part.sum() for part in np.array_split(nats, blocks)]) / np.log(2)
    rows = rng.integers(blocks, size=(bootstrap, blocks))
    draws = sums[rows].sum(1) / lengths[rows].sum(1)
    return Result("bits per character", float(value), len(text), None, percentiles(draws), by)


def distinct_n(texts, *, n=2, split=str.split):
    """Distinct word n-grams over all of them, 0 to 1 (Li et al. 2016, "A diversity-promoting
    objective function"), as a ``Result`` without floor and interval: ``measure_texts`` gives those.

    It falls as texts get longer or more: compare equal amounts of text. split: what makes words of
    a text; ``list`` for scripts without spaces. Raises ``UserError`` where no text has n words.
    """
    counted = ngrams.count_ngrams([split(text) for text in texts], n)[-1]
    if not any(counted):
        raise UserError(f"distinct-{n} needs texts of at least {n} words; give longer texts.")
    value = len(set().union(*counted)) / sum(counter.total() for counter in counted)
    return Result(f"distinct-{n}", value, len(texts), None, None, "counting", True, True)


def self_bleu(texts, *, split=str.split):
    """Mean BLEU of each text against all others, 0 to 100 (Zhu et al. 2018): the higher, the more
    alike the texts. A ``Result`` without floor and interval: ``measure_texts`` gives those.

    The same number as sacrebleu's ``sentence_bleu`` without tokenisation, but what the others have
    of an n-gram is looked up (the three highest counts suffice) instead of counted for each text.
    split: what makes words of a text; ``list`` for scripts without spaces. Raises ``UserError`` for
    fewer than two texts, or an empty one.
    """
    words = [split(text) for text in texts]
    if len(words) < 2 or not all(words):
        raise UserError(f"self-BLEU needs two texts or more, none of them empty; got {len(words)}.")
    value = float(ngrams.self_bleu_without_each(words)[0])
    return Result("self-BLEU", value, len(texts), None, None, "counting", False, True)


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


def measure_texts(
    texts, reference_texts, *, training_text=None, judge=None, split=str.split, seed=0
):
    """Measure generated texts, and as many held-out real ones for the floor: {name: ``Result``}.

    texts: generated, a list of strings. reference_texts: real ones that no model was trained on.
    training_text: one string; with it, longest_overlap. judge: a model with ``cross_entropy``, not
    trained on either; with it, bits_per_character. split: what makes words of a text; ``list`` for
    scripts without spaces. seed: of what is drawn, here and in the bootstrap.

    - distinct_1, distinct_2: 0 to 1. self_bleu, bleu: 0 to 100.
    - longest_overlap: characters of a text that stand in the training text, the median over texts.
    - bits_per_character: the perplexity under the judge, in bits, each text read on its own; its
      first token costs nothing.

    n is the smaller number of texts; of the other side, n are drawn. All depends on lengths too:
    sorted by length, the two texts of a rank are cut to the shorter one, in words for what counts
    words, in characters for the last two. ``floor`` is the same number for the real texts. Half of
    those are bleu's references; its floor is the other half against them: the number of references
    matters to BLEU, that of the texts scored does not.

    The interval, 95%, is that of the number expected of n such texts (for bleu: against these
    references), by the jackknife, as a text drawn twice would look like a lack of variety; for the
    median, by bootstrap over texts. In simulations, those of distinct-n and self-BLEU were 1.2 to
    1.7 times as wide as needed. Too narrow are those of self-BLEU among few texts some of which are
    copies, and of a BLEU that hangs on a handful of shared four-word runs.

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
    if shortest < ngrams.ORDER:
        raise UserError(
            f"a text has {shortest} words after the cut to equal lengths, and {ngrams.ORDER} are "
            "needed: leave short texts out, or pass split=list for a script without spaces."
        )
    found = {
        "distinct_1": _measure(partial(ngrams.distinct_without_each, n=1), *sides, 1),
        "distinct_2": _measure(partial(ngrams.distinct_without_each, n=2), *sides, 1),
        "self_bleu": _measure(ngrams.self_bleu_without_each, *sides, 100),
    }
    by = dict.fromkeys(found, "counting")

    pool, rest = sides[1][::2], sides[1][1::2]  # sorted by length: the halves are alike
    counts = [ngrams.bleu_counts(words, pool) for words in (sides[0], rest)]
    found["bleu"] = _measure(partial(_without_each, ngrams.corpus_bleu), *counts, 100)
    by["bleu"] = f"sacrebleu {sacrebleu.__version__}, {len(pool)} references"

    sides = _cut(drawn, real_drawn)
    if training_text is not None:
        lengths = [
            np.array([longest_overlap(text, training_text) for text in side]) for side in sides
        ]
        found["longest_overlap"] = _medians(*lengths, rng)
        by["longest_overlap"] = f"search in {len(training_text):,} characters"
    if judge is not None:
        bits = [
            np.array([(judge.cross_entropy(text).sum() / np.log(2), len(text)) for text in side])
            for side in sides
        ]
        ratio = partial(_without_each, lambda rows: np.divide(*rows.sum(0)))
        found["bits_per_character"] = _measure(ratio, *bits)
        by["bits_per_character"] = type(judge).__name__
    results = {}
    for key, (value, floor, interval) in found.items():
        name, *direction = FACTS[key]
        results[key] = Result(name, float(value), n, float(floor), interval, by[key], *direction)
    return results


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


def _without_each(statistic, rows):
    """(the statistic of all rows, the statistic without each): one that adds rows up."""
    return statistic(rows), np.array([statistic(np.delete(rows, i, 0)) for i in range(len(rows))])


def _measure(measure, side, real, highest=np.inf):
    """(value, floor, interval) by a function that gives a value and the values without each."""
    (value, without), (floor, _) = measure(side), measure(real)
    return value, floor, jackknife(value, without, highest=highest)


def _medians(side, real, rng, draws=500):
    """(value, floor, interval) of the median of a number a text, by bootstrap over texts."""
    values = np.median(rng.choice(side, (draws, len(side))), axis=1)
    return np.median(side), np.median(real), percentiles(values)
