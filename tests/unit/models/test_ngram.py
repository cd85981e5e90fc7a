"""An n-gram model's probabilities are those of the formulas, computed again in dictionaries."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from genlib import UserError
from genlib.models import ngram, tokenizers

LETTERS = tokenizers.CharTokenizer("abc\n")
every_smoothing = pytest.mark.parametrize("smoothing", ngram.SMOOTHINGS)
texts = st.text("abc\n", min_size=6, max_size=60)
orders = st.integers(1, 5)


def by_the_formula(tokens, order, vocab_size, smoothing):
    """P(token | context), slowly: a function of both; context: a tuple of any length."""
    followers = defaultdict(Counter)  # of each context of up to order − 1 tokens
    for n in range(order):
        for i in range(n, len(tokens)):
            followers[tuple(tokens[i - n : i])][tokens[i]] += 1

    def witten_bell(token, context):
        seen = followers[context]
        shorter = witten_bell(token, context[1:]) if context else 1 / vocab_size
        return (seen[token] + len(seen) * shorter) / (seen.total() + len(seen)) if seen else shorter

    def add_one(token, context):
        seen = followers[context]
        return (seen[token] + 1) / (seen.total() + vocab_size)

    rule = witten_bell if smoothing == "witten-bell" else add_one
    return lambda token, context: rule(token, tuple(context)[max(0, len(context) - order + 1) :])


@every_smoothing
@given(learned=texts, order=orders, context=st.lists(st.integers(0, 3), max_size=8))
def test_each_distribution_is_that_of_the_formula_and_sums_to_one(
    smoothing, learned, order, context
):
    p = ngram.NGram(LETTERS, order, smoothing).fit(learned).distribution(context)
    slow = by_the_formula(LETTERS.encode(learned).tolist(), order, 4, smoothing)
    expected = [slow(token, context) for token in range(4)]
    np.testing.assert_allclose(p, expected, rtol=1e-12)
    assert p.sum() == pytest.approx(1) and p.min() > 0


@every_smoothing
@given(learned=texts, order=orders, read=st.text("abc\n", min_size=2, max_size=20))
def test_the_nats_of_a_text_are_those_of_its_tokens_one_after_the_other(
    smoothing, learned, order, read
):
    model, tokens = ngram.NGram(LETTERS, order, smoothing).fit(learned), LETTERS.encode(read)
    steps = [model.distribution(tokens[:i])[tokens[i]] for i in range(1, len(tokens))]
    np.testing.assert_allclose(model.cross_entropy(read), -np.log(steps), rtol=1e-9, atol=1e-12)
    assert model.perplexity(read) == pytest.approx(np.exp(-np.mean(np.log(steps))))
    bits = -np.sum(np.log2(steps)) / len(read)
    assert model.bits_per_character(read) == pytest.approx(bits)


def test_witten_bell_by_hand():
    # After "a": b twice, c once. 3 tokens, 2 kinds. Alone: a 3, b 2, c 1 of 6, 3 kinds; 1/3 before.
    letters = tokenizers.CharTokenizer("abc")
    p = ngram.NGram(letters, order=2).fit("abacab").distribution(letters.encode("a"))
    alone = [(3 + 3 / 3) / (6 + 3), (2 + 3 / 3) / (6 + 3), (1 + 3 / 3) / (6 + 3)]
    np.testing.assert_allclose(
        p, [2 * alone[0] / 5, (2 + 2 * alone[1]) / 5, (1 + 2 * alone[2]) / 5]
    )


@pytest.mark.parametrize("vocab_size", [2, 4, 65, 512, 50_000])
def test_up_to_the_highest_order_no_sequence_is_mistaken_for_another(vocab_size):
    many = tokenizers.CharTokenizer("".join(chr(1000 + i) for i in range(vocab_size)))
    order = ngram.highest_order(vocab_size)
    assert vocab_size**order <= 2**63 < vocab_size ** (order + 1)
    last = vocab_size - 1  # the largest numbers
    tokens = [last] * (order + 5) + [0] + [last] * (order - 1) + [1, last]
    model = ngram.NGram(many, order).fit(many.decode(tokens))
    slow = by_the_formula(tokens, order, vocab_size, "witten-bell")
    steps = [slow(tokens[i], tokens[:i]) for i in range(1, len(tokens))]
    np.testing.assert_allclose(model.cross_entropy(many.decode(tokens)), -np.log(steps), rtol=1e-9)


@pytest.mark.parametrize("order", [0, -1, 32, np.nan])
def test_an_order_whose_sequences_are_no_64_bit_numbers_is_refused(order):
    with pytest.raises(UserError, match=rf"order={order} is not possible with 4 .* give 1 to 31"):
        ngram.NGram(LETTERS, order)


def test_a_misspelt_smoothing_is_refused_with_what_was_meant():
    with pytest.raises(UserError, match="Did you mean 'witten-bell'"):
        ngram.NGram(LETTERS, 2, "witten bell")


# Where the truth is known

CHAIN = np.array([[0.1, 0.6, 0.3], [0.7, 0.1, 0.2], [0.25, 0.25, 0.5]])


def walk(length, seed):
    """A text of a Markov chain, whose letter says which comes next."""
    uniform, state, states = np.random.default_rng(seed).random(length), 0, []
    limits = CHAIN.cumsum(1)
    for u in uniform:
        state = int(np.searchsorted(limits[state], u))
        states.append(state)
    return "".join("abc"[state] for state in states)


@every_smoothing
def test_on_a_markov_chain_order_2_reaches_the_entropy_rate(smoothing):
    letters, learned, read = tokenizers.CharTokenizer("abc"), walk(30_000, 0), walk(30_000, 1)
    values, vectors = np.linalg.eig(CHAIN.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    rate = -np.sum(stationary[:, None] * CHAIN * np.log(CHAIN))
    alone = -np.sum(stationary * np.log(stationary))

    def nats(order):
        return ngram.NGram(letters, order, smoothing).fit(learned).cross_entropy(read).mean()

    assert nats(1) == pytest.approx(alone, abs=0.01) and alone > rate + 0.1
    assert nats(2) == pytest.approx(rate, abs=0.01)  # the mean's standard error is 0.003
    assert nats(3) == pytest.approx(
        nats(2), abs=0.002
    )  # more context helps nothing, and costs little


# Generation


@pytest.fixture(scope="module")
def model():
    return ngram.NGram(LETTERS, 3).fit("abcab\nabccab\n" * 5)


def test_the_same_seed_gives_the_same_text_and_another_seed_another(model):
    one, two, three = (model.generate("ab", 40, seed=seed) for seed in (1, 1, 2))
    assert one == two != three and one.startswith("ab") and len(one) == 42
    assert model.generate(["ab", "a"], 40, seed=1)[0] == one


def test_a_streamed_text_is_printed_whole(model, capsys):
    texts = model.generate(["ab", "a"], 40, stream=True)
    assert capsys.readouterr().out == texts[0][2:]


def test_several_prompts_give_several_texts(model):
    drawn = model.generate(["a", "a", "\n"], 30, temperature=2.0)
    assert (
        [len(each) for each in drawn] == [31] * 3 and drawn[2][0] == "\n" and drawn[0] != drawn[1]
    )


def test_greedy_texts_follow_the_likeliest_tokens(model):
    tokens = list(LETTERS.encode("\n"))
    for _ in range(20):
        tokens.append(int(model.distribution(tokens).argmax()))
    assert model.generate("\n", 20, top_k=1) == LETTERS.decode(tokens)


def test_texts_have_the_law_of_the_distribution():
    model = ngram.NGram(LETTERS, 2).fit("abcab\nabccab\n" * 5)
    drawn = LETTERS.encode(model.generate("a", 600, temperature=3.0, seed=3))
    chances = np.array([model.distribution([token]) ** (1 / 3) for token in range(4)])
    chances /= chances.sum(1, keepdims=True)
    found = np.bincount(4 * drawn[:-1] + drawn[1:], minlength=16).reshape(4, 4)
    expected = found.sum(1, keepdims=True) * chances
    assert expected.min() > 5
    assert stats.chi2(12).sf(np.sum((found - expected) ** 2 / expected)) > 0.01


@pytest.mark.parametrize(
    "control",
    [{"temperature": 0}, {"top_k": 0}, {"top_p": 0}, {"min_p": 2}, {"repetition_penalty": 0.9}],
    ids=lambda control: next(iter(control)),
)
def test_a_control_out_of_range_or_nan_is_refused(model, control):
    (name,) = control
    for value in (control[name], np.nan):
        with pytest.raises(UserError, match=f"{name}={value} is not possible"):
            model.generate("a", 5, **{name: value})


@pytest.mark.parametrize("count", [0, np.nan, 2.5])
def test_a_number_of_new_tokens_that_is_none_is_refused(model, count):
    with pytest.raises(UserError, match=f"n_tokens={count} is not possible"):
        model.generate("a", count)


# Texts that are too short


@every_smoothing
@given(learned=st.text("abc\n", max_size=4), order=st.integers(1, 6))
def test_orders_beyond_the_text_say_nothing_new(smoothing, learned, order):
    model = ngram.NGram(LETTERS, order, smoothing).fit(learned)
    slow = by_the_formula(LETTERS.encode(learned).tolist(), order, 4, smoothing)
    for context in ([], [0], [1, 2, 3, 0, 1]):
        expected = [slow(token, context) for token in range(4)]
        np.testing.assert_allclose(model.distribution(context), expected)


@pytest.mark.parametrize("short", ["", "a"])
def test_a_text_without_a_token_to_predict_has_no_score(model, short):
    for score in (model.cross_entropy, model.perplexity, model.bits_per_character):
        with pytest.raises(UserError, match="the text needs 2 tokens"):
            score(short)
