"""Batches are whole, shuffled as a function of seed and epoch, and the same for every backend."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genlib import UserError, data, training
from genlib.training.backend import keras

TOKENS = np.arange(1000, 1104, dtype="int32")  # 104 tokens, each of which tells its place
IMAGES = np.arange(50, dtype="uint8").reshape(50, 1, 1, 1)


def epoch_of(batches):
    """The images of one epoch in their order, asked for as ``fit`` does: in an order of its own."""
    batches.on_epoch_begin()
    asked = random.sample(range(len(batches)), len(batches))
    found = [data.to_uint8(data.to_unit(batches[i])).ravel() for i in asked]
    batches.on_epoch_end()
    return np.concatenate(found).tolist()


@pytest.mark.parametrize("batch_size", [1, 7, 25, 50])
def test_an_epoch_shows_each_image_once_less_an_incomplete_batch(batch_size):
    shown = epoch_of(training.Batches(IMAGES, batch_size))
    assert len(shown) == 50 // batch_size * batch_size
    assert len(set(shown)) == len(shown) and set(shown) <= set(range(50))


def test_the_order_is_a_function_of_seed_and_epoch():
    straight, later, other = (training.Batches(IMAGES, 10, seed) for seed in (0, 0, 1))
    orders = [epoch_of(straight) for _ in range(3)]
    later.epoch = 2
    assert epoch_of(later) == orders[2]
    assert len({tuple(order) for order in [*orders, epoch_of(other)]}) == 4


def test_outside_of_fit_a_batch_is_the_one_asked_for():
    batches = training.Batches(IMAGES, 10)
    backwards = [np.asarray(batches[i]).ravel().tolist() for i in reversed(range(5))]
    assert [np.asarray(batches[i]).ravel().tolist() for i in range(5)] == backwards[::-1]


def test_labels_stay_with_their_images():
    images, labels = map(np.asarray, training.Batches(IMAGES, 10, labels=np.arange(50))[3])
    assert images.dtype == np.float32 and images.min() >= -1 and images.max() <= 1
    assert np.array_equal(data.to_uint8(data.to_unit(images)).ravel(), labels)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UserError, match="batch_size=51 is more than the 50"):
        training.Batches(IMAGES, 51)


@pytest.mark.parametrize(
    "steps, count, epochs", [(6500, 60_000, 7), (6500, 1442, 296), (10, 30, 10)]
)
def test_passes_make_as_many_steps_as_asked_for(steps, count, epochs):
    assert training.passes(steps, count, batch_size=64) == epochs


def test_a_tiny_set_is_passed_through_a_thousand_times_at_most():
    assert training.passes(14_900, 100, 64) == 1000


# Windows


def epoch_of_windows(windows):
    """The batches of one epoch, asked for as ``fit`` does: in an order of its own."""
    windows.on_epoch_begin()
    batches = [windows[i] for i in random.sample(range(len(windows)), len(windows))]
    windows.on_epoch_end()
    return [tuple(map(np.asarray, batch)) for batch in batches]


def rows_of(batches):
    """All windows of an epoch, (count, context_length)."""
    return np.concatenate([batch[0] for batch in batches])


@pytest.mark.parametrize("context_length, batch_size", [(8, 4), (8, 12), (5, 3), (1, 10), (52, 1)])
def test_a_batch_is_tokens_and_the_next_tokens(context_length, batch_size):
    windows = training.Windows(TOKENS, context_length, batch_size)
    for _ in range(3):
        batches = epoch_of_windows(windows)
        assert len(batches) == len(windows) > 0
        for tokens, following in batches:
            assert tokens.shape == following.shape == (batch_size, context_length)
            assert tokens.dtype == following.dtype == np.int32
            assert np.array_equal(following, tokens + 1)
            assert np.array_equal(tokens - tokens[:, :1], [range(context_length)] * batch_size)


@given(st.integers(1, 20), st.integers(0, 110), st.integers(0, 3))
def test_an_epoch_goes_once_through_the_row_but_for_less_than_two_windows(context, more, epoch):
    length = 2 * context + more
    windows = training.Windows(np.arange(length, dtype="int32"), context, 1)
    windows.epoch = epoch
    read = np.sort(rows_of(epoch_of_windows(windows)).ravel())
    assert np.array_equal(read, np.arange(read[0], read[0] + len(read)))  # without a gap, once
    assert length - len(read) < 2 * context and read[-1] + 1 < length


def test_the_windows_of_an_epoch_are_a_function_of_seed_and_epoch():
    straight, later, other = (training.Windows(TOKENS, 8, 4, seed) for seed in (0, 0, 1))
    rows = [rows_of(epoch_of_windows(straight)) for _ in range(3)]
    later.epoch = 2
    assert np.array_equal(rows_of(epoch_of_windows(later)), rows[2])
    assert len({each.tobytes() for each in [*rows, rows_of(epoch_of_windows(other))]}) == 4


def test_each_epoch_cuts_at_places_of_its_own():
    windows = training.Windows(TOKENS, 8, 4)
    cuts = [set((rows_of(epoch_of_windows(windows))[:, 0] - 1000) % 8) for _ in range(100)]
    assert all(len(cut) == 1 for cut in cuts) and set.union(*cuts) == set(range(8))


@pytest.mark.backend
def test_fixed_windows_are_the_same_in_each_epoch_so_that_losses_compare():
    stream = training.Windows(TOKENS, 8, 4, fixed=True).stream()
    if keras.backend.backend() == "tensorflow":
        epochs = [[np.asarray(batch[0]) for batch in stream] for _ in range(3)]
    else:
        epochs = [[batch[0] for batch in epoch_of_windows(stream)] for _ in range(3)]
    assert all(np.array_equal(epoch, epochs[0]) for epoch in epochs)
    assert np.array_equal(np.concatenate(epochs[0]).ravel(), TOKENS[:96])


def test_the_windows_are_shuffled():
    firsts = rows_of(epoch_of_windows(training.Windows(TOKENS, 8, 4)))[:, 0]
    assert firsts.tolist() != sorted(firsts)


@pytest.mark.backend
def test_the_stream_gives_the_batches_that_the_windows_give():
    mine, streamed = (training.Windows(TOKENS, 8, 4) for _ in range(2))
    stream = streamed.stream()
    for epoch in range(3):
        expected = epoch_of_windows(mine)
        if keras.backend.backend() == "tensorflow":
            found = [tuple(map(np.asarray, batch)) for batch in stream]
        else:
            found = epoch_of_windows(stream)
        assert len(found) == len(expected) == len(stream) and streamed.epoch == epoch + 1
        for one, other in zip(found, expected, strict=True):
            assert all(map(np.array_equal, one, other)) and one[1].dtype == np.int32


@pytest.mark.parametrize(
    "length, context, batch, words",
    [
        (104, 53, 1, "context_length=53 is too long for a text of 104 tokens; give at most 52"),
        (0, 8, 1, "context_length=8 is too long for a text of 0 tokens"),
        (104, 8, 13, "batch_size=13 is more than the 12 training windows"),
    ],
)
def test_a_row_too_short_for_one_batch_is_refused(length, context, batch, words):
    with pytest.raises(UserError, match=words):
        training.Windows(TOKENS[:length], context, batch)
