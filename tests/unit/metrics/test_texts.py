"""What is said of texts is what sacrebleu says, and what can be counted by hand."""

import json

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from genlib import UserError, metrics
from genlib.metrics import ngrams
from genlib.models import language

# Few different words, so that sequences recur, and texts shorter than four words.
sentences = st.lists(st.sampled_from(["a", "b", "c", "the"]), min_size=1, max_size=9).map(" ".join)


def by_sacrebleu(texts):
    options = {"tokenize": "none", "use_effective_order": True}
    scores = [
        sacrebleu.sentence_bleu(text, [*texts[:i], *texts[i + 1 :]], **options).score
        for i, text in enumerate(texts)
    ]
    return np.mean(scores)


@given(st.lists(sentences, min_size=2, max_size=6))
def test_self_bleu_is_the_mean_of_sacrebleus_scores(texts):
    assert metrics.self_bleu(texts).value == pytest.approx(by_sacrebleu(texts))


@pytest.mark.parametrize(
    "texts",
    [
        ["a b c d e f", "a b c d e", "a b c d e f g"],  # two others are as close in length
        ["a b c d", "e f g h"],  # nothing in common
        ["a", "a"],
        ["a a a a", "a a", "a a a", "b"],  # an n-gram occurs more often here than in any other
        ["a b\tc\n d", " a b c d "],
    ],
)
def test_self_bleu_of_hard_cases_is_sacrebleus(texts):
    assert metrics.self_bleu(texts).value == pytest.approx(by_sacrebleu(texts))


def test_self_bleu_of_equal_texts_is_100_and_of_disjoint_ones_0():
    assert metrics.self_bleu(["a b c d e"] * 3).value == pytest.approx(100)
    assert metrics.self_bleu(["a b c d e", "f g h i j"]).value == 0


def test_scripts_without_spaces_are_split_as_asked():
    texts = ["道可道非常道", "名可名非常名"]
    apart = [" ".join(text) for text in texts]
    assert metrics.self_bleu(texts, split=list) == metrics.self_bleu(apart)
    assert metrics.self_bleu(apart).value > 0 == metrics.self_bleu(texts).value  # a word each
    assert metrics.distinct_n(texts, split=list) == metrics.distinct_n(apart)


@pytest.mark.parametrize("texts", [[], ["a b c"], ["a b", ""], ["a b", " \n"]])
def test_self_bleu_refuses_texts_that_cannot_be_compared(texts):
    with pytest.raises(UserError, match=f"two texts or more, none of them empty; got {len(texts)}"):
        metrics.self_bleu(texts)


def test_distinct_n_by_hand():
    texts = ["to be or not to be", "to be"]  # to be, be or, or not, not to, to be; to be
    assert [metrics.distinct_n(texts, n=n).value for n in (1, 2)] == [4 / 8, 4 / 6]
    assert metrics.distinct_n(texts, n=6).value == 1  # the second text has none
    found = metrics.distinct_n(texts)
    assert (found.name, found.n, found.floor, found.interval) == ("distinct-2", 2, None, None)
    assert found.higher_is_better and not metrics.self_bleu(texts).higher_is_better


@pytest.mark.parametrize("texts", [[], [""], ["one two", "three"]])
def test_distinct_n_refuses_texts_without_any(texts):
    with pytest.raises(UserError, match="distinct-3 needs texts of at least 3 words"):
        metrics.distinct_n(texts, n=3)


# BLEU against a pool


@given(
    st.lists(sentences, max_size=5).map(lambda texts: ["a the b c", *texts]),
    st.lists(sentences, min_size=1, max_size=5),
)
def test_bleu_is_sacrebleus_corpus_bleu_against_all_references(texts, references):
    counts = ngrams.bleu_counts(*([text.split() for text in side] for side in (texts, references)))
    streams = [[reference] * len(texts) for reference in references]
    expected = sacrebleu.corpus_bleu(texts, streams, tokenize="none").score
    assert ngrams.corpus_bleu(counts) == pytest.approx(expected)


# The longest passage that stands verbatim in the training text


def longest_by_brute_force(text, training):
    passages = (text[i:j] for i in range(len(text)) for j in range(i, len(text) + 1))
    return max((len(passage) for passage in passages if passage in training), default=0)


@given(st.text("ab", max_size=14), st.text("abc", max_size=30))
def test_longest_overlap_is_that_of_all_passages(text, training):
    found = metrics.longest_overlap(text, training)
    assert found == longest_by_brute_force(text, training)


@given(st.text("ab ", max_size=40), st.integers(0, 40), st.text("ab ", max_size=10))
def test_longest_overlap_of_a_copied_passage_is_at_least_its_length(training, start, around):
    passage = training[start : start + 12]
    assert metrics.longest_overlap(around + passage + around, training) >= len(passage)


# Bits per character


class Pairs:
    """A tokenizer of two characters a token."""

    def encode(self, text):
        return np.arange(len(text) // 2)

    def decode(self, tokens):
        return "ab" * len(tokens)


class Told(language.TextModel):
    """A model whose nats are given; it reads two characters a token."""

    tokenizer = Pairs()

    def __init__(self, nats):
        self.nats = np.asarray(nats)

    def cross_entropy(self, text, stride=None):
        assert stride in (None, 3)
        return self.nats


def measured(nats, **options):
    """The result for a text of two characters a token."""
    text = "ab" * (len(nats) + 1)
    return metrics.bits_per_character(text, Told(nats), by="told", **options)


def test_bits_per_character_are_all_bits_over_all_characters():
    nats = np.random.default_rng(0).exponential(2, 4321)
    result = measured(nats, stride=3)
    assert result.value == pytest.approx(nats.sum() / np.log(2) / (2 * 4322))
    assert result.value == pytest.approx(Told(nats).bits_per_character("ab" * 4322))
    assert (result.n, result.by, result.floor) == (2 * 4322, "told", None)
    low, high = result.interval
    assert low < result.value < high
    assert json.loads(json.dumps(result.as_dict()))["floor"] is None


def test_the_interval_repeats_with_its_seed():
    nats = np.random.default_rng(0).exponential(2, 4000)
    one, two, three = (measured(nats, seed=seed).interval for seed in (1, 1, 2))
    assert one == two != three


@pytest.mark.parametrize("n, together", [(12_000, 1), (12_000, 50), (400, 1), (1000, 5)])
def test_the_interval_covers_the_truth_about_as_often_as_it_claims(n, together):
    rng, results = np.random.default_rng(0), []
    for _ in range(200):
        nats = np.repeat(rng.exponential(2, n // together), together)  # neighbours are alike
        results.append(measured(nats, bootstrap=100).interval)
    low, high = np.transpose(results)
    truth = 1 / np.log(2)
    assert 0.84 < np.mean((low < truth) & (truth < high)) < 0.99
    error = np.sqrt(together / n) / np.log(2)
    assert np.mean(high - low) == pytest.approx(2 * 1.96 * error, rel=0.15)


@pytest.mark.parametrize("count", [0, 1, 19])
def test_a_text_of_too_few_tokens_has_no_interval(count):
    with pytest.raises(UserError, match=f"more than 20 tokens; this one has {count + 1}"):
        measured(np.ones(count))
    assert measured(np.ones(20)).interval == pytest.approx((1 / 2 / np.log(2),) * 2)


class Uneven(Pairs):
    """A tokenizer whose tokens are a or bbbb, by turns of a hundred."""

    def encode(self, text):
        return np.array([letter == "b" for letter in text.replace("bbbb", "b")], int)

    def decode(self, tokens):
        return "".join(["a", "bbbb"][token] for token in tokens)


def test_the_interval_is_that_of_a_ratio_where_tokens_have_unequal_lengths():
    """Nats in proportion to characters: every passage has the same bits per character."""
    text = ("a" * 100 + "bbbb" * 100) * 20
    told = Told(0.5 * np.array([len(Uneven().decode([t])) for t in Uneven().encode(text)[1:]]))
    told.tokenizer = Uneven()
    low, high = metrics.bits_per_character(text, told, by="told", block=100).interval
    assert low == pytest.approx(high) == pytest.approx(0.5 / np.log(2))
