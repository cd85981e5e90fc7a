"""Blocks that two or more families share."""

import numpy as np

from genlib import UserError
from genlib._backend import keras

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


def update_average(average, model, step, decay=0.999):
    """Move the weights of ``average`` towards those of ``model`` (exponential moving average).

    average, model: two models of the same architecture; ``average`` is changed in place.
    step: number of updates so far, a scalar tensor. The decay warms up as (1 + step) / (10 + step),
        so that the first, random weights are soon forgotten.
    decay: share of the old average that is kept once warm, between 0 and 1.
    """
    kept = ops.minimum(decay, (1.0 + step) / (10.0 + step))
    for slow, fast in zip(average.weights, model.weights, strict=True):
        slow.assign(kept * slow + (1.0 - kept) * fast)


def warmup_cosine(peak, steps, warmup=200):
    """A learning rate that rises from 0 to ``peak`` and then falls on a cosine to a fiftieth of it.

    steps: training steps in all; warmup: of the rise, at most a tenth of them.
    """
    warmup = min(warmup, steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, alpha=0.02, warmup_target=peak, warmup_steps=warmup
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
