"""Controlled damage to a training set, so that its effect can be measured: wrong labels, noisy
pixels, copies. Each function leaves its input as it is."""

import numpy as np

from genlib import UserError


def relabel(labels, rate, num_classes, rng):
    """Draw each label anew with the chance ``rate``, from all ``num_classes`` alike, its own too.

    labels: whole numbers (n,); rng: a NumPy generator. Returns int32 (n,).
    """
    check_share("rate", rate)
    drawn = rng.integers(0, num_classes, len(labels))
    return np.where(rng.random(len(labels)) < rate, drawn, labels).astype("int32")


def speckle(images, deviation, rng):
    """Add Gaussian noise to each pixel, its standard deviation in units of the range from black to
    white, and cut what leaves that range. images: uint8 of any shape. Returns uint8."""
    if not (np.isfinite(deviation) and deviation >= 0):
        raise UserError(f"deviation={deviation} is not possible; give a number from 0 up.")
    noise = 255 * deviation * rng.standard_normal(images.shape, "float32")
    return np.clip(np.round(images + noise), 0, 255).astype("uint8")


def repeat(n, share, originals):
    """The rows (n,), as indices, of a set in which ``share`` of n rows are further copies.

    The first ``originals`` rows are those that are copied, in turn; each stays once besides. The
    copies replace the last rows, and never an original.
    """
    check_share("share", share)
    if not 1 <= originals <= n:
        raise UserError(f"originals={originals} is not possible; give 1 to {n}, the rows.")
    copies = min(round(share * n), n - originals)
    return np.concatenate([np.arange(n - copies), np.arange(copies) % originals])


def check_share(name, value):
    """Raise ``UserError`` for what is no share, from 0 to 1."""
    if not 0 <= value <= 1:
        raise UserError(f"{name}={value} is not possible; give a share from 0 to 1.")
