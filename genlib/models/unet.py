"""The network of diffusion: a U-Net that is told the time."""

import numpy as np

from genlib import UserError
from genlib.models.blocks import check_shape
from genlib.training.backend import keras

layers, ops = keras.layers, keras.ops


@keras.saving.register_keras_serializable(package="genlib")
class TimeEmbedding(layers.Layer):
    """Time (batch,) in [0, 1] → sines and cosines of 1 to 1000 radians a unit: (batch, 64)."""

    def call(self, time):
        angles = time[:, None] * np.geomspace(1, 1000, 32).astype("float32")
        return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)

    def compute_output_shape(self, shape):
        return (shape[0], 64)


def residual_block(x, condition, filters):
    """Two convolutions around what the network is told, added to the input (He et al. 2016).

    x (batch, height, width, any) and condition (batch, any) → (batch, height, width, filters). The
    last convolution starts at zero, so an untrained block changes nothing.
    """
    y = layers.RMSNormalization()(x)
    y = layers.Conv2D(filters, 3, padding="same")(y)
    told = layers.Reshape((1, 1, filters))(layers.Dense(filters)(condition))
    y = layers.Activation("silu")(y + told)
    y = layers.Conv2D(filters, 3, padding="same", kernel_initializer="zeros")(y)
    if x.shape[-1] != filters:
        x = layers.Conv2D(filters, 1)(x)
    return x + y


def self_attention(x, heads=4):
    """Let each position (batch, height, width, filters) look at all others; added to the input."""
    height, width, filters = x.shape[1:]
    y = layers.Reshape((height * width, filters))(layers.RMSNormalization()(x))
    y = layers.MultiHeadAttention(heads, filters // heads)(y, y)
    return x + layers.Reshape((height, width, filters))(y)


def describe(time, label, num_classes, width):
    """What every block is told of time (batch,) and label (batch,) or None: (batch, 4 · width)."""
    x = layers.Dense(4 * width, activation="silu")(TimeEmbedding()(time))
    if label is not None:
        x += layers.Embedding(num_classes + 1, 4 * width)(label)
    return layers.Dense(4 * width, activation="silu")(x)


def check_sizes(image_shape, width, levels, patch):
    """Raise ``UserError`` for sizes that make no U-Net."""
    if patch not in (1, 2) or levels < 1 or width < 4:
        raise UserError(
            f"patch={patch}, levels={levels}, width={width} make no U-Net: patch is 1 or 2, levels "
            "is 1 or more, width 4 or more."
        )
    check_shape(image_shape, patch * 2 ** (levels - 1))


def build_unet(image_shape, width=32, levels=2, patch=2, num_classes=0, attention=False):
    """A U-Net (Ronneberger et al. 2015): [image, time in [0, 1], label] → (batch, *image_shape).

    width: filters at the first level, a multiple of 4; each of the ``levels`` halves the size and
    doubles them. patch: 1, or 2 to join 2×2 pixels at the door. num_classes: 0 for no label input;
    else labels are 0 … num_classes, the last one for "not told". attention: at the lowest level.
    Raises ``UserError`` for sizes that do not fit.
    """
    check_sizes(image_shape, width, levels, patch)
    image, time = keras.Input(image_shape, name="image"), keras.Input((), name="time")
    label = keras.Input((), dtype="int32", name="label") if num_classes else None
    condition = describe(time, label, num_classes, width)
    x = layers.Conv2D(width, patch + 2, patch, padding="same")(image)
    skips = []
    for level in range(levels):
        if level:
            x = layers.Conv2D(width * 2**level, 3, 2, padding="same")(x)
        x = residual_block(x, condition, width * 2**level)
        skips.append(x)
    x = residual_block(x, condition, x.shape[-1])
    x = residual_block(self_attention(x) if attention else x, condition, x.shape[-1])
    for level in reversed(range(levels)):
        x = residual_block(layers.Concatenate()([x, skips.pop()]), condition, width * 2**level)
        if level:
            x = layers.Conv2DTranspose(width * 2 ** (level - 1), 4, 2, padding="same")(x)
    x = layers.Activation("silu")(layers.RMSNormalization()(x))
    last = layers.Conv2DTranspose(
        image_shape[-1], patch + 2, patch, padding="same", kernel_initializer="zeros"
    )
    return keras.Model([image, time, label] if num_classes else [image, time], last(x), name="unet")
