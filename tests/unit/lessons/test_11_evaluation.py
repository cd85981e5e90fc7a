"""Lesson 11 takes the difference of two distances with what both share left out of both at once."""

import numpy as np
import pytest

from genlib import metrics
from genlib.authoring import definitions

lesson = definitions.load("11")


def clouds(rng, n=200, d=4):
    """Two models of the same points, one a little worse, and real points: (n, d) each."""
    first, second, real = rng.standard_normal((3, n, d))
    return first + 0.3, 1.2 * second + 0.4, real


def test_the_value_is_the_difference_of_the_two_distances():
    first, second, real = clouds(np.random.default_rng(0))
    value, reach = lesson.fcd_gap((first, second, real))
    distances = [metrics.fcd(x, real, floor=real, by="").value for x in (first, second)]
    assert value == pytest.approx(distances[1] - distances[0])
    assert lesson.fcd_gap((second, first, real)) == pytest.approx((-value, reach))


def test_images_do_not_differ_from_themselves():
    first, _, real = clouds(np.random.default_rng(0))
    assert lesson.fcd_gap((first, first, real), same=True) == pytest.approx((0, 0), abs=1e-9)
    assert lesson.fcd_gap((first, first, real))[1] > 0.01  # as if drawn twice


@pytest.mark.parametrize("same", [False, True])
def test_it_holds_the_mean_as_often_as_it_says_and_is_no_wider_than_need_be(same):
    rng, found = np.random.default_rng(1), []
    for _ in range(100):
        first, second, real = clouds(rng)
        found.append(lesson.fcd_gap((first, 1.2 * first if same else second, real), same))
    values, reaches = np.transpose(found)
    assert np.mean(abs(values - values.mean()) <= reaches) >= 0.9
    assert reaches.mean() < 1.5 * 1.96 * values.std()


def test_pairing_the_images_narrows_the_interval():
    first, _, real = clouds(np.random.default_rng(0))
    pair = first, 1.2 * first, real
    assert lesson.fcd_gap(pair, same=True)[1] < 0.7 * lesson.fcd_gap(pair)[1]
