"""The controls keep the tokens that they name, and a draw follows what they leave."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.special import softmax

from genlib import UserError
from genlib.models import decoding
from genlib.training.backend import keras

pytestmark = pytest.mark.backend
ALMOST_ONE = 1 - 2.0**-24  # the largest number below 1 that a generator draws
FINE = {"temperature": 1.0, "top_k": None, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}

# Rows of six tokens, of few different logits, so that many are equally likely.
some_logits = arrays("float32", (3, 6), elements=st.integers(-6, 6).map(lambda n: n / 2))
some_top_k = st.integers(0, 7)
some_top_p = st.integers(0, 99).map(lambda n: (n + 0.37) / 100)  # no sum of their probabilities
some_min_p = st.integers(0, 100).map(lambda n: n / 100)


def smallest(falling, top_k=0, top_p=1.0, min_p=0.0):
    """How many of the likeliest tokens are kept, one control after the other.

    falling: the probabilities of one row, the largest first.
    """
    counts = [len(falling)] + [top_k] * (top_k > 0)
    if top_p < 1:
        counts.append(1 + sum(np.cumsum(falling) < top_p))
    counts.append(max(1, sum(falling >= min_p * falling[0])))
    return min(counts)


def reference(logits, **controls):
    """Which tokens of each row may be drawn: those at least as likely as the last one kept."""
    probability = softmax(logits.astype("float64"), axis=-1)
    falling = -np.sort(-probability, axis=-1)
    last = [row[smallest(row, **controls) - 1] for row in falling]
    return probability >= np.array(last)[:, None] * (1 - 1e-9)


def kept(logits, **controls):
    """Which tokens the library keeps; what it keeps is as it was."""
    found = np.asarray(decoding.filter_logits(logits, **controls))
    assert np.array_equal(found[found > -np.inf], logits[found > -np.inf])
    return found > -np.inf


@pytest.mark.once
@given(some_logits, some_top_k)
def test_top_k_keeps_the_k_likeliest_and_their_equals(logits, top_k):
    assert np.array_equal(kept(logits, top_k=top_k), reference(logits, top_k=top_k))


@pytest.mark.once
@given(some_logits, some_top_p)
def test_top_p_keeps_the_fewest_tokens_that_suffice_and_their_equals(logits, top_p):
    assert np.array_equal(kept(logits, top_p=top_p), reference(logits, top_p=top_p))


@pytest.mark.once
@given(some_logits, some_min_p)
def test_min_p_keeps_those_with_a_share_of_the_likeliest_ones_probability(logits, min_p):
    assert np.array_equal(kept(logits, min_p=min_p), reference(logits, min_p=min_p))


@given(some_logits, some_top_k, some_top_p, some_min_p)
def test_together_the_controls_keep_what_each_of_them_keeps(logits, top_k, top_p, min_p):
    controls = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
    found = kept(logits, **controls)
    assert np.array_equal(found, reference(logits, **controls))
    each = [kept(logits, **{name: value}) for name, value in controls.items()]
    assert np.array_equal(found, np.all(each, axis=0))


@pytest.mark.parametrize(
    "top_p, expected",
    [
        (0.1, [0, 0, 0, 1, 0]),
        (0.39, [0, 0, 0, 1, 0]),
        (0.41, [1, 0, 0, 1, 1]),  # one of the two would do, and nothing tells which
        (0.79, [1, 0, 0, 1, 1]),
        (0.81, [1, 1, 0, 1, 1]),
        (0.97, [1, 1, 1, 1, 1]),
    ],
)
def test_top_p_on_a_row_by_hand(top_p, expected):
    logits = np.log(np.float32([[0.2, 0.15, 0.05, 0.4, 0.2]]))
    assert kept(logits, top_p=top_p)[0].tolist() == [bool(e) for e in expected]


def test_tokens_that_have_top_p_to_the_last_bit_suffice():
    logits = np.log(np.float32([[odds, 1] for odds in range(2, 60)]))
    first, second = np.asarray(keras.ops.softmax(logits)).T
    exact = (first + second) - second == first  # for the others float32 decides
    assert sum(exact) > 5
    for row, top_p in zip(logits[exact], first[exact], strict=True):
        assert kept(row[None], top_p=top_p).tolist() == [[True, False]]
        assert kept(row[None], top_p=np.nextafter(top_p, np.float32(1))).all()


def test_min_p_of_one_keeps_the_likeliest_alone_and_its_equals():
    assert kept(np.float32([[1, 3, 2, 3]]), min_p=1.0).tolist() == [[False, True, False, True]]


def test_without_controls_even_the_least_likely_token_stays():
    assert kept(np.float32([[0, 40, -40]])).all()
    assert kept(np.float32([[0, 40, -40]]), top_k=2).tolist() == [[True, True, False]]


def test_a_penalty_divides_positive_logits_and_multiplies_negative_ones_of_what_was_seen():
    logits = np.float32([[3, -3, 0, 3, -3], [1, 1, 1, 1, -1]])
    seen = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 0, 1]], bool)
    expected = [[2, -4.5, 0, 3, -3], [1, 1 / 1.5, 1, 1, -1.5]]
    np.testing.assert_allclose(decoding.penalise(logits, seen, 1.5), expected, rtol=1e-6)
    assert np.array_equal(decoding.penalise(logits, seen, 1.0), logits)


# Drawing


def draw(logits, uniform, **controls):
    """A token for each of the numbers ``uniform``, from one row of logits."""
    rows = np.tile(np.float32(logits), (len(uniform), 1))
    rows = decoding.filter_logits(rows, **controls) if controls else rows
    return np.asarray(decoding.choose_token(rows, np.float32(uniform)))


@pytest.mark.once
@pytest.mark.parametrize(
    "controls",
    [{}, {"top_k": 3}, {"top_p": 0.6}, {"min_p": 0.2}, {"top_k": 4, "top_p": 0.8, "min_p": 0.1}],
    ids=str,
)
@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_draws_have_the_frequencies_of_what_is_left(controls, temperature):
    logits = np.float32([0.3, -1, 1.2, 0, 0.9, -0.4]) / np.float32(temperature)
    drawn = draw(logits, np.random.default_rng(0).random(5000), **controls)
    left = reference(logits[None], **controls)[0]
    expected = 5000 * softmax(np.where(left, logits, -np.inf))
    counts = np.bincount(drawn, minlength=6)
    assert drawn.dtype == np.int32 and len(counts) == 6 and not counts[~left].any()
    statistic = np.sum((counts - expected)[left] ** 2 / expected[left])
    assert stats.chi2(sum(left) - 1).sf(statistic) > 0.01


def test_a_number_draws_the_token_in_whose_part_of_the_line_it_lies():
    logits = np.log(np.float32([0.5, 0.25, 0.125, 0.125]))
    numbers = [0, 0.499, 0.501, 0.749, 0.751, 0.874, 0.876, ALMOST_ONE]
    assert draw(logits, numbers).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_with_the_likeliest_token_alone_every_number_draws_it():
    numbers = [0, 0.3, ALMOST_ONE]
    assert draw([0.1, 2, 1.9, -5], numbers, top_k=1).tolist() == [1, 1, 1]


def test_no_number_draws_a_token_that_was_left_out():
    for row in np.random.default_rng(0).normal(0, 2, (10, 512)).astype("float32"):
        row[[0, -1]] = -9
        row = np.asarray(decoding.filter_logits(row[None], top_k=256))[0]
        sums = np.cumsum(softmax(row), dtype="float32")  # where one token gives way to the next
        numbers = np.concatenate([sums, np.nextafter(sums, 0), np.nextafter(sums, 1), 0 * sums])
        assert np.isfinite(row[draw(row, np.minimum(numbers, ALMOST_ONE))]).all()


# Refusing


@pytest.mark.once
@pytest.mark.parametrize(
    "name, values",
    [
        ("temperature", [1e-3, 5]),
        ("top_k", [None, 1, 7, np.int64(3)]),
        ("top_p", [1e-3, 1]),
        ("min_p", [0, 1]),
        ("repetition_penalty", [1, 2.5]),
    ],
)
def test_the_ends_of_a_range_belong_to_it(name, values):
    for value in values:
        decoding.check_controls(**FINE | {name: value})


@pytest.mark.once
@pytest.mark.parametrize(
    "name, values, allowed",
    [
        ("temperature", [0, -1], "above 0"),
        ("top_k", [0, 1.5, -1, np.inf], "1, 2, … or None"),
        ("top_p", [0, -0.1, 1.5], "at most 1"),
        ("min_p", [-0.1, 1.1], "from 0"),
        ("repetition_penalty", [0.5, 0, -2], "from 1"),
    ],
)
def test_a_control_out_of_its_range_is_refused_by_its_name(name, values, allowed):
    for value in [*values, np.nan]:
        with pytest.raises(UserError) as caught:
            decoding.check_controls(**FINE | {name: value})
        assert f"{name}={value} is not possible; give " in str(caught.value)
        assert allowed in str(caught.value)
