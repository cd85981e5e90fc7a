"""What two or more families share: checks of what they are given, latents, batches."""

import functools
import inspect

import numpy as np

from genlib import UserError, check_whole, nearest
from genlib.training.backend import keras

ops = keras.ops


def named_options(method):
    """Make a wrong call of ``method``, such as one with an unknown option, a ``UserError``."""
    signature = inspect.signature(method)
    names = list(signature.parameters)[1:]

    @functools.wraps(method)
    def checked(self, *values, **options):
        try:
            signature.bind(self, *values, **options)
        except TypeError as error:
            unknown = [name for name in options if name not in names]
            raise UserError(
                f"{method.__name__}: {error}; give options by name: {', '.join(names)}."
                f"{nearest(unknown[0], names) if unknown else ''}"
            ) from None
        return method(self, *values, **options)

    return checked


def draw_latents(n, shape, seed, latents=None, labels=None):
    """Standard normal vectors, NumPy float32 (n, *shape), or ``latents`` if they are of that shape.

    ``n`` may be None where latents or labels give it. Raises ``UserError`` for what does not fit.
    """
    given = labels if latents is None else latents
    n = len(given) if n is None and np.ndim(given) else n
    check_whole("n", n, 1)
    if latents is None:
        return np.random.default_rng(seed).standard_normal((n, *shape), "float32")
    latents = np.asarray(latents)
    if latents.shape != (n, *shape):
        raise UserError(
            f"the latents have shape {latents.shape}; {n} samples of this model need {(n, *shape)}."
        )
    return latents


def check_labels(labels, n, num_classes):
    """One whole number, or ``n`` of them, from 0 to ``num_classes`` − 1 → int32 NumPy (n,).

    Raises ``UserError`` for anything else.
    """
    labels = np.asarray(labels)
    if labels.shape not in ((), (n,)) or labels.dtype.kind not in "iu":
        raise UserError(
            f"labels must be one whole number or {n} of them, not {labels.dtype} of shape "
            f"{labels.shape}."
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise UserError(
            f"the labels go from {labels.min()} to {labels.max()}; this model knows 0 to "
            f"{num_classes - 1}."
        )
    return np.broadcast_to(labels, n).astype("int32")


def in_batches(function, *arrays, size):
    """Apply ``function`` (arrays → tensors) to ``size`` rows at a time: NumPy, of all rows."""
    starts = range(0, len(arrays[0]), size)
    batches = [[array[i : i + size] for array in arrays] for i in starts]
    parts = [[ops.convert_to_numpy(t) for t in function(*batch)] for batch in batches]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def check_shape(image_shape, multiple=4):
    """Raise ``UserError`` for images whose sides are not multiples of ``multiple``, twice or more:
    what a network that halves and doubles sizes can draw."""
    height, width, _ = image_shape
    if height % multiple or width % multiple or min(height, width) < 2 * multiple:
        raise UserError(
            f"this model draws images whose sides are multiples of {multiple}, from {2 * multiple} "
            f"up, not {height}×{width}; give image_size="
            f"{max(2 * multiple, multiple * round(height / multiple))}."
        )


def slerp(start, end, fraction):
    """Interpolate on the sphere between Gaussian latents (White 2016, "Sampling generative
    networks"). A straight line would pass through vectors shorter than any that was trained on.

    start, end: NumPy arrays (..., latent_dim); fraction: from 0 (start) to 1 (end).
    """
    cosine = np.sum(start * end, -1, keepdims=True)
    cosine /= np.linalg.norm(start, axis=-1, keepdims=True) * np.linalg.norm(
        end, axis=-1, keepdims=True
    )
    angle = np.arccos(np.clip(cosine, -0.9999, 0.9999))
    return (np.sin((1 - fraction) * angle) * start + np.sin(fraction * angle) * end) / np.sin(angle)
