"""Blocks that two or more families share."""

import numpy as np

from genlib import UserError
from genlib.training.backend import keras

ops = keras.ops


def check_shape(image_shape, multiple=4):
    """Raise ``UserError`` for images whose sides are not multiples of ``multiple``, twice or more:
    what a network that halves and doubles sizes can draw."""
    height, breadth, _ = image_shape
    if height % multiple or breadth % multiple or min(height, breadth) < 2 * multiple:
        raise UserError(
            f"this model draws images whose sides are multiples of {multiple}, from {2 * multiple} "
            f"up, not {height}×{breadth}; give image_size="
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


def gradient(function, x):
    """The derivative of a scalar function of one tensor at x: NumPy, of x's shape."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x).numpy()
