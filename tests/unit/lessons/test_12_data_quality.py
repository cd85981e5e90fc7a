"""Lesson 12 damages a training set in known amounts: as it says, and no more."""

import numpy as np
import pytest

from genlib.authoring import definitions

lesson = definitions.load("12")


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 1.0])
def test_labels_stay_as_often_as_the_formula_says(rate):
    labels = np.arange(100_000) % 10
    before = labels.copy()
    given = lesson.relabel(labels, rate, 10, np.random.default_rng(0))
    expected = 1 - rate + rate / 10
    error = np.sqrt(expected * (1 - expected) / len(labels))
    assert abs(np.mean(given == labels) - expected) <= 4 * error
    wrong = np.bincount(given[given != labels], minlength=10)
    assert wrong.sum() == 0 or np.ptp(wrong) < 0.1 * wrong.mean()  # any class, alike
    assert given.dtype == "int32" and (labels == before).all()


@pytest.mark.parametrize("deviation", [0.0, 0.05, 0.2])
def test_pixel_noise_has_its_deviation_and_keeps_the_range(deviation):
    grey = np.full((200, 8, 8, 1), 128, "uint8")
    noisy = lesson.speckle(grey, deviation, np.random.default_rng(0))
    assert noisy.dtype == "uint8" and noisy.shape == grey.shape
    assert np.std(noisy / 255 - 128 / 255) == pytest.approx(deviation, rel=0.03, abs=1e-9)
    black = lesson.speckle(0 * grey, 0.5, np.random.default_rng(0))
    assert np.mean(black == 0) == pytest.approx(0.5, abs=0.02)  # cut, not wrapped around


def test_copies_replace_the_last_rows_and_the_originals_stay():
    rows = lesson.repeat(100, 0.5, 10)
    counts = np.bincount(rows, minlength=100)
    assert len(rows) == 100
    assert counts[:10].tolist() == [6] * 10  # once, and five further copies
    assert counts[10:50].tolist() == [1] * 40 and not counts[50:].any()


def test_without_copies_every_row_is_there_once():
    assert lesson.repeat(7, 0.0, 3).tolist() == list(range(7))


def test_no_original_is_ever_replaced():
    rows = lesson.repeat(10, 1.0, 4)
    assert len(rows) == 10 and set(rows) == {0, 1, 2, 3}
