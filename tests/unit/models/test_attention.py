"""Attention equals its formulas in NumPy, knows distances only, and never looks ahead."""

import numpy as np
import pytest
from numerics import gradients
from scipy.special import softmax

from genlib.models import gpt
from genlib.training.backend import compiled, keras

pytestmark = pytest.mark.backend
layers, ops = keras.layers, keras.ops
BATCH, TIME, DIM, HEADS = 2, 6, 12, 2


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, "float32")


def shaken(layer):
    """Build a layer and give all of its weights random values: some are zero at the start."""
    layer.build((None, TIME, DIM))
    layer.set_weights([0.5 * normal(i, *w.shape) for i, w in enumerate(layer.get_weights())])
    return layer


@pytest.fixture(scope="module", params=[True, False], ids=["rotary", "plain"])
def layer(request):
    return shaken(gpt.CausalSelfAttention(DIM, HEADS, rotary=request.param))


@pytest.fixture(scope="module")
def block():
    return shaken(gpt.Block(DIM, HEADS, dropout=0.5))


# Who sees whom


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ((1,), ["1"]),
        ((3,), ["100", "110", "111"]),
        ((1, 4, 0), ["1000"]),
        ((1, 4, 2), ["1110"]),
        ((2, 5, 2), ["11100", "11110"]),
    ],
)
def test_a_query_sees_the_keys_before_it_and_its_own(arguments, expected):
    mask = np.asarray(gpt.causal_mask(*arguments))
    assert mask.dtype == bool
    assert mask.tolist() == [[sign == "1" for sign in row] for row in expected]


def test_attend_weighs_the_values_that_a_query_sees():
    queries, keys, values = normal(0, 3, 4, 8), normal(1, 3, 5, 8), normal(2, 3, 5, 7)
    mask = np.random.default_rng(3).random((4, 5)) < 0.6
    mask[:, 0] = True
    result, weights = map(np.asarray, gpt.attend(queries, keys, values, mask))
    for b in range(3):
        for t in range(4):
            products = [queries[b, t] @ key / np.sqrt(8) for key in keys[b]]
            expected = softmax(np.where(mask[t], products, -np.inf))
            np.testing.assert_allclose(weights[b, t], expected, atol=1e-6)
            np.testing.assert_allclose(result[b, t], expected @ values[b], atol=1e-5)
    assert not weights[:, ~mask].any()


# Rotary positions


def test_rotate_turns_pairs_by_the_position_times_a_falling_frequency():
    x, positions = normal(0, 2, 3, 4, 6), np.array([0, 1, 7, 100])
    pairs = x[..., :3] + 1j * x[..., 3:]
    pairs = pairs * np.exp(1j * positions[:, None] * 10_000.0 ** (-np.arange(3) / 3))
    turned = np.asarray(gpt.rotate(x, positions))
    expected = np.concatenate([pairs.real, pairs.imag], -1)
    np.testing.assert_allclose(turned, expected, atol=1e-4)
    assert np.array_equal(turned[:, :, 0], x[:, :, 0])


def test_rotate_keeps_the_length_of_a_vector():
    x = normal(0, 1, 1, 50, 16)
    turned = np.asarray(gpt.rotate(x, np.arange(50) * 9))
    lengths = [np.linalg.norm(each, axis=-1) for each in (turned, x)]
    np.testing.assert_allclose(*lengths, rtol=1e-5)


def test_the_product_of_turned_vectors_depends_on_their_distance_alone():
    query, key = normal(0, 16), normal(1, 16)
    place = np.arange(30)
    queries, keys = (
        np.asarray(gpt.rotate(np.tile(x, (1, 1, 30, 1)), place))[0, 0] for x in (query, key)
    )
    products = queries @ keys.T
    for distance in range(-29, 30):
        along = np.diagonal(products, distance)
        np.testing.assert_allclose(along, along[0], atol=1e-4)
    firsts = [products[0, distance] for distance in range(30)]
    assert np.min(np.diff(np.sort(firsts))) > 1e-4  # and tells distances apart


# A layer


def rms(x, scale):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6) * scale


def by_hand(layer, x):
    """What the layer should return, in NumPy, from its weights."""
    project, merge = (np.asarray(d.kernel) for d in (layer.project, layer.merge))
    parts = (x @ project).reshape(BATCH, TIME, 3, HEADS, DIM // HEADS).transpose(2, 0, 3, 1, 4)
    queries, keys = (
        rms(part, np.asarray(norm.scale)) for part, norm in zip(parts[:2], layer.norms, strict=True)
    )
    if layer.rotary:
        queries, keys = (np.asarray(gpt.rotate(p, np.arange(TIME))) for p in (queries, keys))
    scores = queries @ keys.swapaxes(-1, -2) / np.sqrt(DIM // HEADS)
    weights = softmax(np.where(np.tri(TIME, dtype=bool), scores, -np.inf), axis=-1)
    heads = weights @ parts[2]
    return heads.transpose(0, 2, 1, 3).reshape(BATCH, TIME, DIM) @ merge


def test_the_layer_is_attention_in_each_head_and_merges_them(layer):
    x = normal(0, BATCH, TIME, DIM)
    np.testing.assert_allclose(np.asarray(layer(x)[0]), by_hand(layer, x), atol=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_with_a_cache_the_layer_reads_in_parts_what_it_reads_at_once(layer, count):
    def read(part, cache, position):
        result, filled = layer(part, cache=(cache[0], cache[1]), position=position)
        return result, ops.stack(filled)

    x, cache = normal(0, BATCH, TIME, DIM), np.zeros((2, BATCH, HEADS, 9, DIM // HEADS), "float32")
    shapes = [(BATCH, count, DIM), cache.shape, ()]
    signature = list(zip(shapes, ["float32", "float32", "int32"], strict=True))
    read, found = compiled(read, layer.variables, signature), []
    for position in range(0, TIME, count):
        part = x[:, position : position + count]
        result, cache = read(part, cache, np.int32(position))
        found.append(np.asarray(result))
    np.testing.assert_allclose(np.concatenate(found, axis=1), by_hand(layer, x), atol=1e-4)


def test_what_lies_in_the_cache_after_the_position_is_not_read(layer):
    x = normal(0, BATCH, 1, DIM)
    full = tuple(normal(5, 2, BATCH, HEADS, TIME, DIM // HEADS))
    changed = tuple(np.where(np.arange(TIME)[:, None] < 3, part, 1e3) for part in full)
    one, other = (np.asarray(layer(x, cache=cache, position=3)[0]) for cache in (full, changed))
    np.testing.assert_allclose(one, other, atol=1e-6)


# A block


def test_a_new_block_passes_on_what_it_gets():
    block, x = gpt.Block(DIM, HEADS), normal(0, BATCH, TIME, DIM)
    assert np.array_equal(np.asarray(block(x)[0]), x)


def test_a_block_adds_attention_and_then_what_two_dense_layers_make_of_it(block):
    x = normal(0, BATCH, TIME, DIM)
    first, second = (np.asarray(norm.scale) for norm in block.norms)
    middle = x + by_hand(block.attention, rms(x, first))
    wide = np.maximum(rms(middle, second) @ np.asarray(block.widen.kernel), 0)
    expected = middle + wide @ np.asarray(block.narrow.kernel)
    np.testing.assert_allclose(np.asarray(block(x)[0]), expected, rtol=1e-3, atol=1e-3)


def test_dropout_drops_in_training_alone(block):
    x = normal(0, BATCH, TIME, DIM)
    still, again, trained = (np.asarray(block(x, training=t)[0]) for t in (False, False, True))
    assert np.array_equal(still, again) and not np.allclose(still, trained)


@pytest.mark.parametrize("time", [0, 3, TIME - 1])
def test_by_gradient_a_position_depends_on_those_up_to_it_and_on_no_later_one(block, time):
    x = keras.Variable(normal(0, 1, TIME, DIM))
    (gradient,) = gradients(lambda: ops.sum(block(x.value)[0][:, time] * normal(1, DIM)), [x])
    felt = abs(gradient).max(-1)[0]
    assert np.all(felt[: time + 1] > 1e-4) and not felt[time + 1 :].any()


@pytest.mark.parametrize("rotary", [True, False])
def test_a_layer_is_rebuilt_from_its_configuration(rotary):
    block = gpt.Block(DIM, HEADS, rotary, dropout=0.25, name="mine")
    again = gpt.Block.from_config(block.get_config())
    assert again.get_config() == block.get_config() and again.name == "mine"
    assert again.attention.rotary == rotary and again.dropout.rate == 0.25
    again = gpt.CausalSelfAttention.from_config(block.attention.get_config())
    assert again.get_config() == block.attention.get_config()
