"""The figures that one lesson draws for itself say what they show, and show it."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from genlib.authoring import definitions


def drawn(picture):
    """The picture as an array, after a look at its alternative text."""
    assert picture.format == "png" and picture.alt == "what it shows"
    return np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"), float)


def test_matrices_are_blue_where_they_are_large_whatever_the_script_of_their_names():
    matrix = {"first": np.eye(3), "second": np.zeros((3, 3))}
    heat = definitions.load("09").heat
    with warnings.catch_warnings(action="error"):
        found = drawn(heat(matrix, "key", "query", ["道", "b", "\n"], alt="what it shows"))
    blue = found[..., 2] - found[..., 0] > 60
    left, right, _ = np.split(blue, [found.shape[1] * 12 // 25, found.shape[1] * 3 // 4], axis=1)
    assert left.any() and not right.any()  # and at the end stands the colour bar


@pytest.mark.parametrize("labelled", [True, False])
def test_the_latent_map_draws_a_grid_whose_top_row_is_highest(labelled):
    asked = []

    def decode(latents):
        asked.append(latents)
        return np.full((len(latents), 4, 4, 1), 0.5)

    codes = np.random.default_rng(0).standard_normal((40, 2))
    labels = np.arange(40) % 2 if labelled else None
    latent_map = definitions.load("04").latent_map
    assert drawn(latent_map(decode, codes, labels, ["a", "b"], alt="what it shows")).std() > 5
    grid = asked[0].reshape(15, 15, 2)
    assert (np.diff(grid[0, :, 0]) > 0).all() and (np.diff(grid[:, 0, 1]) < 0).all()
    assert grid[7, 7] == pytest.approx([0, 0], abs=1e-6)


def test_walks_and_tradeoffs_are_drawn_with_alternative_text():
    lines = {"DDPM": np.random.default_rng(0).standard_normal((5, 3))}
    walks = definitions.load("06").walks
    assert drawn(walks(lines, [4, 3, 2, 1, 0], "t", alt="what it shows")).std() > 5
    points = {"GAN": (0.1, 5.0, (4.0, 6.0)), "VAE": (2.0, 9.0, (8.0, 11.0))}
    tradeoff = definitions.load("11").tradeoff
    assert drawn(tradeoff({"seconds": points}, "FCD", alt="what it shows")).std() > 5
