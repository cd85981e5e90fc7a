"""Lesson 07 fills in and enlarges images by correcting a diffusion model's estimates."""

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
