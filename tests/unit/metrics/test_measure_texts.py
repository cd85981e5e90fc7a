"""Texts are measured beside real ones: equal amounts, floors, and intervals that hold."""

import numpy as np
import pytest
import sacrebleu

from genlib import UserError, metrics
from genlib.metrics import measure_texts, ngrams
from genlib.metrics.intervals import jackknife

COUNTED = {"distinct_1", "distinct_2", "self_bleu", "bleu"}


def prose(rng, n, length=20, vocabulary=500):
    """n texts of words by Zipf's law, w0, w1, …"""
    shares = 1 / np.arange(1, vocabulary + 1)
    rows = rng.choice(vocabulary, (n, length), p=shares / shares.sum())
    return [" ".join(f"w{word}" for word in row) for row in rows]


@pytest.fixture
def texts():
    return prose(np.random.default_rng(0), 40)


@pytest.fixture
def real():
    return prose(np.random.default_rng(1), 40)


class Judge:
    """Every character but the first costs as many nats as it has bits here."""

    def cross_entropy(self, text):
        return np.array([ord(c) % 7 for c in text[1:]]) * np.log(2)


def test_each_value_and_floor_is_what_the_functions_give_for_texts_of_one_length():
    texts, real = [f"{i:02} a b {i % 3} d" for i in range(30)], ["a b c d ee"] * 30
    found = measure_texts(texts, real, training_text="x a b 2 dd", judge=Judge())
    values = {key: result.value for key, result in found.items()}
    floors = {key: result.floor for key, result in found.items()}
    bits = [sum(ord(c) % 7 for c in t[1:]) / 10 for t in texts]
    assert values == pytest.approx(
        {
            "distinct_1": metrics.distinct_n(texts, n=1).value,
            "distinct_2": metrics.distinct_n(texts, n=2).value,
            "self_bleu": metrics.self_bleu(texts).value,
            "bleu": sacrebleu.corpus_bleu(texts, [real] * 15, tokenize="none").score,
            "longest_overlap": 5,  # " a b " in two thirds of the texts, " a b 2 d" in the others
            "bits_per_character": np.mean(bits),
        }
    )
    assert floors == pytest.approx(
        {
            "distinct_1": 5 / 150,
            "distinct_2": 4 / 120,
            "self_bleu": 100,
            "bleu": 100,
            "longest_overlap": 4,
            "bits_per_character": sum(ord(c) % 7 for c in " b c d ee") / 10,
        }
    )
    assert {result.n for result in found.values()} == {30}
    directions = {key: result.higher_is_better for key, result in found.items()}
    assert [key for key, better in directions.items() if better is None] == ["bits_per_character"]
    assert [key for key, better in directions.items() if better] == [
        "distinct_1",
        "distinct_2",
        "bleu",
    ]


def test_overlap_and_bits_are_there_when_asked_for(texts, real):
    assert measure_texts(texts, real).keys() == COUNTED
    assert measure_texts(texts, real, judge=Judge()).keys() == COUNTED | {"bits_per_character"}
    with_text = measure_texts(texts, real, training_text="w1 w2")
    assert with_text.keys() == COUNTED | {"longest_overlap"}


def test_both_sides_are_cut_to_as_many_texts_of_the_same_lengths():
    rng = np.random.default_rng(0)
    long = prose(rng, 50, length=60, vocabulary=20)
    short = [t[: t.rindex(" ")] for t in prose(rng, 30, length=15, vocabulary=20)]
    for found in (measure_texts(short, long), measure_texts(long, short)):
        assert {result.n for result in found.values()} == {30}
        for result in found.values():  # one source: without the cut, distinct-1 differs fourfold
            assert result.value == pytest.approx(result.floor, rel=0.2)


def test_equal_texts_on_both_sides_are_at_their_floor_but_for_bleu(texts):
    found = measure_texts(texts, texts, training_text=" ".join(texts[:3]), judge=Judge())
    for key in found.keys() - {"bleu"}:
        assert found[key].value == pytest.approx(found[key].floor)


def test_bleus_floor_is_one_half_of_the_real_texts_against_the_other(texts):
    real = ["a b c d e f"] * 20 + ["g h i j k l"] * 20
    found = measure_texts(texts, real)["bleu"]
    assert (found.floor, found.value) == (pytest.approx(100), 0)
    assert "20 references" in found.by


def test_measures_repeat_with_their_seed(texts, real):
    options = {"training_text": "w1 w2", "judge": Judge()}
    one, two, three = (measure_texts(texts, real, **options, seed=s) for s in (1, 1, 2))
    assert one == two != three


def test_scripts_without_spaces_are_split_as_asked():
    rng = np.random.default_rng(0)
    texts, real = (["".join(rng.choice(list("道可非常名無"), 12)) for _ in range(20)] for _ in "ab")
    found = measure_texts(texts, real, split=list)
    assert found["distinct_2"].value == pytest.approx(metrics.distinct_n(texts, split=list).value)
    with pytest.raises(UserError, match=r"a text has 1 words .* split=list"):
        measure_texts(texts, real)


# Intervals


def test_distinct_without_each_text_is_that_of_the_others(texts):
    words = [text.split() for text in texts]
    value, without = ngrams.distinct_without_each(words, 2)
    others = [texts[:i] + texts[i + 1 :] for i in range(len(texts))]
    assert value == metrics.distinct_n(texts).value
    assert without == pytest.approx([metrics.distinct_n(rest).value for rest in others])


@pytest.mark.parametrize("vocabulary", [3, 30, 500])
def test_self_bleu_without_each_text_is_that_of_the_others(vocabulary):
    texts = prose(np.random.default_rng(0), 12, vocabulary=vocabulary)  # all of one length
    value, without = ngrams.self_bleu_without_each([text.split() for text in texts])
    others = [texts[:i] + texts[i + 1 :] for i in range(len(texts))]
    assert value == pytest.approx(metrics.self_bleu(texts).value)
    assert without == pytest.approx([metrics.self_bleu(rest).value for rest in others])


def test_the_jackknife_of_a_mean_is_students_interval():
    x = np.random.default_rng(0).random(25)
    low, high = jackknife(x.mean(), (x.sum() - x) / 24, highest=1)
    reach = 2.0639 * x.std(ddof=1) / 5  # Student's t of 24 degrees of freedom
    assert (low, high) == pytest.approx((x.mean() - reach, x.mean() + reach), rel=1e-4)
    assert jackknife(0.5, np.array([0.0, 1.0]), highest=1) == (0, 1)


def phrase_writer(rng):
    """A function that draws texts of stock phrases, so that runs of words recur as in real text."""
    phrases = [" ".join(prose(rng, 1, length, 300)) for length in np.tile([1, 2, 3, 4, 5], 60)]
    shares = 1 / np.arange(10, 310)

    def write(n):
        rows = rng.choice(300, (n, 7), p=shares / shares.sum())
        return [" ".join(phrases[i] for i in row) for row in rows]

    return write


def test_the_intervals_cover_the_expected_value_about_as_often_as_they_claim():
    rng, covered, widths = np.random.default_rng(0), {}, {}
    for _ in range(2):  # two languages, 60 times 30 texts of each
        write = phrase_writer(rng)
        real, training = write(30), " ".join(write(30))
        runs = [
            measure_texts(write(30), real, training_text=training, judge=Judge()) for _ in range(60)
        ]
        for key in runs[0]:
            values = np.array([run[key].value for run in runs])
            low, high = np.transpose([run[key].interval for run in runs])
            hits = (low <= values.mean()) & (values.mean() <= high)
            covered.setdefault(key, []).extend(hits)
            widths.setdefault(key, []).extend((high - low) / (2 * 1.96 * values.std(ddof=1)))
    for key in covered:
        assert np.mean(covered[key]) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 120), key
        assert 0.8 < np.mean(widths[key]) < 2, key  # 1 is exact; the jackknife is cautious


# Refusals

GOOD = ["one two three four five"] * 20


@pytest.mark.parametrize(
    "texts, real, said",
    [
        (GOOD[1:], GOOD, "^texts has 19 texts; .* at least 20"),
        (GOOD, [], "^reference_texts has 0 texts; .* at least 20"),
        (GOOD, GOOD[1:], "^reference_texts has 19 texts; .* at least 20"),
        ([*GOOD, " \n"], GOOD, r"^texts\[20\] is empty"),
        (GOOD, ["", *GOOD], r"^reference_texts\[0\] is empty"),
        ([*GOOD, 3], GOOD, "^texts is not a list of strings"),
        ([*GOOD, None], GOOD, "^texts is not a list of strings"),
        (" ".join(GOOD), GOOD, "^texts is not a list of strings"),
        (GOOD, " ".join(GOOD), "^reference_texts is not a list of strings"),
        (None, GOOD, "^texts is not a list of strings"),
        (["one two three", *GOOD[1:]], GOOD, "^a text has 3 words after the cut"),
        (GOOD, ["one two", *GOOD[1:]], "^a text has 2 words after the cut"),
    ],
)
def test_texts_that_cannot_be_measured_are_refused_in_one_sentence(texts, real, said):
    with pytest.raises(UserError, match=said):
        measure_texts(texts, real)
