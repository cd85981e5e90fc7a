"""Shared blocks equal their formulas in NumPy."""

import numpy as np
import pytest

from genlib import training
from genlib.models import blocks
from genlib.training.backend import keras


def dense(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, bias_initializer="normal")])


@pytest.mark.backend
@pytest.mark.parametrize("step, kept", [(0, 0.1), (1, 2 / 11), (90, 0.91), (1e6, 0.999)])
def test_update_average_keeps_the_stated_share_of_the_old_average(step, kept):
    average, model = dense(0), dense(1)
    old, new = average.get_weights(), model.get_weights()
    training.update_average(average, model, keras.ops.convert_to_tensor(float(step)))
    for moved, slow, fast in zip(average.get_weights(), old, new, strict=True):
        np.testing.assert_allclose(moved, kept * slow + (1 - kept) * fast, rtol=1e-5)
    assert all(map(np.array_equal, model.get_weights(), new))


def latents(seed, shape=(5, 8)):
    return np.random.default_rng(seed).standard_normal(shape)


def test_slerp_starts_and_ends_at_its_ends():
    start, end = latents(0), latents(1)
    np.testing.assert_allclose(blocks.slerp(start, end, 0.0), start, atol=1e-12)
    np.testing.assert_allclose(blocks.slerp(start, end, 1.0), end, atol=1e-12)


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_slerp_between_orthogonal_unit_vectors_turns_by_the_fraction(fraction):
    middle = blocks.slerp(np.array([1.0, 0.0]), np.array([0.0, 1.0]), fraction)
    angle = fraction * np.pi / 2
    np.testing.assert_allclose(middle, [np.cos(angle), np.sin(angle)], atol=1e-12)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.75])
def test_slerp_of_unit_vectors_moves_on_the_sphere_at_a_steady_angle(fraction):
    start, end = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (latents(0), latents(1)))
    middle = blocks.slerp(start, end, fraction)
    whole = np.arccos(np.sum(start * end, -1))
    np.testing.assert_allclose(np.linalg.norm(middle, axis=-1), 1)
    np.testing.assert_allclose(np.arccos(np.sum(start * middle, -1)), fraction * whole)


@pytest.mark.parametrize("sign", [1, -1])
def test_slerp_is_finite_between_parallel_vectors(sign):
    start = latents(0)
    assert np.isfinite(blocks.slerp(start, sign * start, 0.5)).all()


@pytest.mark.parametrize("steps, warmup", [(1000, 100), (5000, 200), (9, 0)])
def test_the_rate_rises_to_its_peak_and_falls_to_a_fiftieth(steps, warmup):
    schedule = training.warmup_cosine(0.3, steps)
    rates = np.array([float(schedule(step)) for step in range(0, steps + 1, max(1, steps // 100))])
    peak = float(schedule(warmup))
    assert peak == pytest.approx(0.3) and rates.max() <= peak + 1e-6
    assert rates[0] == (0 if warmup else peak) and rates[-1] == pytest.approx(0.3 / 50)
