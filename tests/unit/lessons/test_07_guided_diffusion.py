"""Lesson 07 steers a diffusion model: it fills in, enlarges, and follows the slope of a misfit."""

import numpy as np
import pytest

from genlib import UserError
from genlib.authoring import definitions
from genlib.models import diffusion

SHAPE = (8, 8, 1)
GREY = np.full((3, *SHAPE), 0.5)  # images
lesson = definitions.load("07")


@pytest.fixture(scope="module")
def plain():
    """A diffusion model that has learned nothing."""
    return diffusion.build_diffusion(SHAPE, network={"width": 8})


@pytest.fixture(scope="module")
def shipped():
    return diffusion.load_diffusion("guided_mnist")


@pytest.mark.parametrize("channels, each", [(1, False), (1, True), (3, True)])
def test_inpainting_keeps_what_is_known_to_the_bit_and_draws_the_rest(channels, each):
    model = diffusion.build_diffusion((8, 8, channels), network={"width": 8})
    rng = np.random.default_rng(0)
    images = rng.random((3, 8, 8, channels), "float32")
    mask = rng.random((3, 8, 8) if each else (8, 8)) < 0.5
    drawn = lesson.inpaint(model, images, mask, steps=5)
    known = np.broadcast_to(mask, (3, 8, 8))
    assert drawn.shape == images.shape and drawn.dtype == np.float32
    assert np.array_equal(drawn[known], images[known])
    assert np.mean(abs(drawn[~known] - images[~known]) > 1e-3) > 0.9
    assert drawn.min() >= 0 and drawn.max() <= 1


def test_inpainting_repeats_with_its_seed_and_draws_another_with_another(plain):
    hidden = np.zeros((8, 8))
    draws = [lesson.inpaint(plain, GREY, hidden, steps=5, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(*draws[:2]) and not np.allclose(draws[0], draws[2])


def test_where_all_is_known_inpainting_changes_nothing(plain):
    images = np.random.default_rng(0).random((3, *SHAPE), "float32")
    assert np.array_equal(lesson.inpaint(plain, images, np.ones((8, 8)), steps=2), images)


@pytest.mark.once
def test_what_is_filled_in_fits_what_is_known_better_than_another_drawing(shipped):
    labels = np.arange(30) % 10
    images, other = (shipped.generate(30, labels=labels, seed=seed) for seed in (1, 2))
    mask = np.zeros((28, 28), bool)
    mask[:, :17] = True
    drawn = lesson.inpaint(shipped, images, mask, steps=10, jumps=2, labels=labels)
    error, of_others = (np.mean((x - images)[:, ~mask] ** 2) for x in (drawn, other))
    assert error < 0.8 * of_others


@pytest.mark.parametrize("jumps", [1, 4])
def test_each_step_of_restoring_is_walked_as_often_as_asked(jumps):
    model, calls = diffusion.build_diffusion(SHAPE, network={"width": 8}), []
    model.estimator = lambda average, guided: lambda x, *_: calls.append(1) or 0.0 * x
    lesson.inpaint(model, GREY, np.ones((8, 8)), steps=3, jumps=jumps)
    assert len(calls) == 3 * jumps
    lesson.super_resolve(model, GREY[:, ::2, ::2], steps=3, jumps=jumps)
    assert len(calls) == 6 * jumps


def block_means(images, factor):
    n, height, width, channels = images.shape
    shape = n, height // factor, factor, width // factor, factor, channels
    return images.reshape(shape).mean((2, 4))


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_enlarged_images_have_the_means_of_the_small_ones(factor):
    model = diffusion.build_diffusion((8, 16, 3), network={"width": 8})
    pattern = 0.2 * np.tanh(np.random.default_rng(0).standard_normal((8, 16, 3), "float32"))
    model.estimator = lambda average, guided: lambda x, *_: 0.0 * x + pattern  # nothing is clipped
    shape = 2, 8 // factor, 16 // factor, 3
    small = np.random.default_rng(0).uniform(0.3, 0.7, shape).astype("float32")
    drawn = lesson.super_resolve(model, small, steps=3)
    np.testing.assert_allclose(block_means(drawn, factor), small, atol=1e-5)
    wide = small.repeat(factor, 1).repeat(factor, 2)
    details = (pattern - block_means(pattern[None], factor).repeat(factor, 1).repeat(factor, 2)) / 2
    np.testing.assert_allclose(drawn - wide, np.broadcast_to(details, drawn.shape), atol=1e-5)


@pytest.mark.once
def test_enlarged_digits_shrink_to_the_small_ones_but_for_clipping(shipped):
    small = block_means(shipped.generate(20, seed=1), 4)
    drawn, again = (lesson.super_resolve(shipped, small, steps=10, seed=seed) for seed in (0, 1))
    assert drawn.shape == (20, 28, 28, 1) and drawn.min() >= 0 and drawn.max() <= 1
    assert np.mean(abs(block_means(drawn, 4) - small)) < 0.03
    assert not np.allclose(drawn, again, atol=0.1)


@pytest.mark.parametrize(
    "images, mask, options, words",
    [
        (GREY, np.ones((4, 4)), {}, r"shape \(4, 4\); .*\(8, 8\), .*\(3, 8, 8\)"),
        (GREY, np.ones((2, 8, 8)), {}, r"shape \(2, 8, 8\)"),
        (GREY, np.ones(SHAPE), {}, r"shape \(8, 8, 1\)"),
        (GREY[:, :4], np.ones((4, 8)), {}, r"\(3, 4, 8, 1\); .*\(3, 8, 8, 1\)"),
        (255 * GREY, np.ones((8, 8)), {}, r"from 127\.5 to 127\.5; give \[0, 1\]"),
        (GREY - 1, np.ones((8, 8)), {}, r"from -0\.5 to -0\.5"),
        (np.nan * GREY, np.ones((8, 8)), {}, "nan.*without NaN"),
        (GREY, np.ones((8, 8)), {"jumps": 0}, "jumps=0"),
        (GREY, np.ones((8, 8)), {"steps": 0}, "steps=0"),
        (GREY, np.ones((8, 8)), {"labels": 3}, "trained with them"),
        (GREY, np.ones((8, 8)), {"guidance": 3}, "Did you mean 'guidance_scale'"),
    ],
)
def test_inpainting_refuses_what_does_not_fit(plain, images, mask, options, words):
    with pytest.raises(UserError, match=words):
        lesson.inpaint(plain, images, mask, **options)


@pytest.mark.parametrize(
    "small, options, words",
    [
        (GREY[:, :3, :3], {}, r"\(3, 3, 3, 1\); .*\(n, 8 / f, 8 / f, 1\)"),
        (GREY[:, :5, :5], {}, r"\(3, 5, 5, 1\)"),
        (GREY[:, :4, :2], {}, r"\(3, 4, 2, 1\)"),
        (GREY[:, :0], {}, r"\(3, 0, 8, 1\)"),
        (np.repeat(GREY, 3, axis=3), {}, r"\(3, 8, 8, 3\)"),
        (np.repeat(GREY, 2, axis=1), {}, r"\(3, 16, 8, 1\)"),
        (GREY[0], {}, r"\(8, 8, 1\)"),
        (255 * GREY[:, ::2, ::2], {}, r"from 127\.5 .*give \[0, 1\]"),
        (GREY[:, ::2, ::2], {"jumps": 0}, "jumps=0"),
    ],
)
def test_enlarging_refuses_what_does_not_fit(plain, small, options, words):
    with pytest.raises(UserError, match=words):
        lesson.super_resolve(plain, small, **options)


def test_a_share_has_wilsons_interval():
    assert lesson.share(np.ones(300, bool)) == pytest.approx((1, 300 / (300 + 1.95996**2), 1))
    value, low, high = lesson.share(np.arange(100) < 20)
    assert value == 0.2 and (low, high) == pytest.approx((0.1334, 0.2888), abs=1e-4)


def test_a_difference_counts_only_images_on_which_both_differ():
    rng = np.random.default_rng(0)
    both = rng.random(300) < 0.5
    gain, low, high = lesson.difference(both, both)
    assert gain == 0 and 0 < high == -low < 0.01
    more = both.copy()
    more[np.flatnonzero(~both)[:20]] = True
    gain, low, high = lesson.difference(more, both)
    assert gain == pytest.approx(20 / 302) and 0.03 < low < gain < high < 0.1
    assert lesson.difference(both, more) == pytest.approx((-gain, -high, -low))


def test_the_interval_of_a_difference_covers_it():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        case = rng.choice(4, 300, p=[0.5, 0.2, 0.1, 0.2])  # both, the first, the second, neither
        _, low, high = lesson.difference(case < 2, (case == 0) | (case == 2))
        covered += low <= 0.1 <= high
    assert 0.93 < covered / 1000 < 0.975


def test_variety_is_that_of_the_features_whatever_the_number_and_its_interval_covers_it():
    rng, values, covered = np.random.default_rng(0), [], 0
    real = 3 * rng.standard_normal((4000, 4)), np.arange(4000) % 10
    for _ in range(200):
        drawn = 1.5 * rng.standard_normal((100, 4)), np.arange(100) % 10
        value, low, high = lesson.variety(drawn, real)
        values.append(value)
        covered += low <= 0.5 <= high
    assert np.mean(values) == pytest.approx(0.5, rel=0.01)
    assert covered / 200 > 0.93  # cautious where a class has ten images


def halves(x):
    """What is known in these tests: the upper half of each image."""
    return x[:, :4]


@pytest.mark.parametrize("num_classes", [0, 3])
def test_the_slope_is_that_of_the_distance_to_what_is_known(num_classes):
    model = diffusion.build_diffusion(SHAPE, num_classes, network={"width": 8})
    rng = np.random.default_rng(0)
    x = 0.5 * rng.standard_normal((2, *SHAPE)).astype("float32")
    known = rng.standard_normal((2, 4, 8, 1)).astype("float32")
    found = lesson.misfit_slope(model, halves, (4, 8, 1))
    # An untrained network outputs 0, so that a flow's estimate of x₀ is x itself.
    numbers = (0.5, 0.5, 1.0, -1.0, 0.5)
    x0, slope = (np.asarray(a) for a in found(x, known, np.zeros(2, "int32"), *numbers))
    gaps = x[:, :4] - known
    np.testing.assert_allclose(x0, np.clip(x, -1, 1), atol=1e-5)
    np.testing.assert_allclose(slope[:, 4:], 0, atol=1e-6)
    norms = np.linalg.norm(gaps.reshape(2, -1), axis=1)
    np.testing.assert_allclose(slope[:, :4], gaps / norms[:, None, None, None], atol=1e-5)


def test_posterior_samples_come_near_what_is_known_and_repeat_with_their_seed(plain):
    known = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 4, 8, 1)).astype("float32")
    free, near, again, other = (
        lesson.posterior_sample(plain, known, halves, zeta=zeta, steps=20, seed=seed)
        for zeta, seed in ((0.0, 1), (0.3, 1), (0.3, 1), (0.3, 2))
    )
    assert near.shape == (3, *SHAPE) and near.min() >= 0 and near.max() <= 1
    assert np.array_equal(near, again) and not np.allclose(near, other, atol=0.1)
    errors = [np.mean((2 * halves(x) - 1 - known) ** 2) for x in (free, near)]
    assert errors[1] < 0.5 * errors[0]


def test_posterior_samples_start_from_the_noise_that_generate_starts_from(plain):
    known = np.zeros((3, 4, 8, 1), "float32")
    drawn = lesson.posterior_sample(plain, known, halves, zeta=0.0, steps=1, seed=3)
    free = plain.generate(3, sampler="ddpm", steps=1, seed=3)
    np.testing.assert_allclose(drawn, free, atol=1e-5)
    assert not np.allclose(free, plain.generate(3, sampler="ddpm", steps=1, seed=4), atol=0.1)


def test_more_images_than_are_drawn_at_once_are_all_drawn(plain, monkeypatch):
    monkeypatch.setattr(diffusion, "BATCH", 4)
    known = np.zeros((10, 4, 8, 1), "float32")
    drawn = lesson.posterior_sample(plain, known, halves, steps=2)
    assert drawn.shape == (10, *SHAPE) and len(np.unique(drawn.reshape(10, -1), axis=0)) == 10


@pytest.mark.once
def test_posterior_samples_of_the_trained_model_complete_the_digit(shipped):
    labels = np.arange(20) % 10
    images, other = (shipped.generate(20, labels=labels, seed=seed) for seed in (1, 2))
    seen = (2 * images - 1)[:, :, :17]
    drawn = lesson.posterior_sample(shipped, seen, lambda x: x[:, :, :17], zeta=2.0, steps=25)
    assert np.mean((drawn - images)[:, :, :17] ** 2) < 0.01
    error, of_others = (np.mean((x - images)[:, :, 17:] ** 2) for x in (drawn, other))
    assert error < 0.8 * of_others
