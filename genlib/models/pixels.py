"""An autoregressive model of images: a GPT that writes a picture patch by patch, as a text.

PixelRNN and PixelCNN (van den Oord et al. 2016) draw pixel by pixel, Image GPT (Chen et al. 2020)
does it with a transformer over a codebook of colours. Here the grey levels are few, and a small
patch of pixels is one token: its likelihood is exact.
"""

import numpy as np

from genlib import UserError, check_whole
from genlib.data import checkpoints
from genlib.data.images import to_unit
from genlib.models.blocks import named_options
from genlib.models.codes import CodeBatches, CodeGPT, CodeTokens
from genlib.training.backend import keras

MAX_PATCHES = 65_536  # different patches: more would make a large model of its embedding alone


@keras.saving.register_keras_serializable(package="genlib")
class PixelTokenizer(CodeTokens):
    """A token a patch: images of few levels, cut into squares, row by row from the top left.

    image_shape: (height, width, channels); levels: of each pixel, 2 or more, evenly spaced from
    0 to 1; patch: side of a square in pixels. The pixels of a patch are the digits of its token in
    base ``levels``, the top left one first. One word, the start, stands before each image.

    Raises ``UserError`` for a patch that does not divide the sides or leaves fewer than 2 patches,
    and for more than 65,536 different ones.
    """

    def __init__(self, image_shape, levels=4, patch=2):
        height, width, channels = self.image_shape = tuple(image_shape)
        if patch < 1 or height % patch or width % patch or height * width < 2 * patch**2:
            raise UserError(
                f"patch={patch} does not cut images of {height}×{width} pixels into 2 or more "
                "squares; give a whole number that divides both sides."
            )
        self.levels, self.patch, self.values = levels, patch, patch**2 * channels
        if levels < 2 or levels**self.values > MAX_PATCHES:
            raise UserError(
                f"levels={levels} with patches of {self.values} values is not possible; give 2 or "
                f"more levels, and a small patch: there may be {MAX_PATCHES:,} different ones, not "
                f"{levels} to the power of {self.values}."
            )
        super().__init__(levels**self.values, height * width // patch**2)

    def encode(self, images):
        """Images (n, height, width, channels), uint8 or float in [0, 1] → int32 (n, length).

        Raises ``UserError`` for another shape, and for values out of the range.
        """
        images = np.asarray(images)
        if images.shape[1:] != self.image_shape:
            raise UserError(
                f"the images have shape {images.shape}; this model takes (n, "
                f"{', '.join(map(str, self.image_shape))})."
            )
        if images.dtype == np.uint8:
            images = to_unit(images)
        if not np.all((images >= 0) & (images <= 1)):  # NaN fails the comparison too
            raise UserError(
                f"the images go from {images.min()} to {images.max()}; give uint8, or floats in "
                "[0, 1] without NaN."
            )
        digits = np.round(images * (self.levels - 1)).astype("int32")
        height, width, channels = self.image_shape
        side, down, across = self.patch, height // self.patch, width // self.patch
        digits = digits.reshape(-1, down, side, across, side, channels).swapaxes(2, 3)
        return digits.reshape(len(images), self.length, -1) @ self._powers()

    def decode(self, tokens):
        """Tokens (n, length), without the start → float32 (n, height, width, channels) in [0, 1].

        Raises ``UserError`` for another shape, and for numbers that are no patch.
        """
        tokens = np.asarray(tokens)
        whole = tokens.ndim == 2 and tokens.shape[1] == self.length
        if not (whole and np.all((tokens >= 0) & (tokens < self.num_codes))):
            raise UserError(
                f"the tokens have shape {tokens.shape}; an image is {self.length} tokens from 0 to "
                f"{self.num_codes - 1:,}."
            )
        digits = tokens[..., None] // self._powers() % self.levels
        height, width, channels = self.image_shape
        side, down, across = self.patch, height // self.patch, width // self.patch
        digits = digits.reshape(-1, down, across, side, side, channels).swapaxes(2, 3)
        return digits.reshape(-1, *self.image_shape).astype("float32") / (self.levels - 1)

    def _powers(self):
        return self.levels ** np.arange(self.values - 1, -1, -1, dtype="int32")

    def get_config(self):
        """What Keras saves."""
        return {"image_shape": self.image_shape, "levels": self.levels, "patch": self.patch}


class PixelBatches(CodeBatches):
    """Images as tokens, in shuffled batches (the start and all tokens but the last, all tokens).

    images: (n, height, width, channels), uint8 or float in [0, 1]; both parts of a batch are int32
    (batch_size, length).
    """

    rows = "images"

    def __init__(self, images, tokenizer, batch_size, seed=0):
        starts = np.zeros(len(images), int)
        super().__init__(tokenizer, starts, tokenizer.encode(images), batch_size, seed)


@keras.saving.register_keras_serializable(package="genlib")
class PixelGPT(CodeGPT):
    """A ``CodeGPT`` whose codes are patches of pixels; it trains on ``PixelBatches``.

    tokenizer: a ``PixelTokenizer``. num_layers, num_heads, model_dim, dropout, seed: as of ``GPT``.
    """

    @named_options
    def generate(self, n, *, temperature=1.0, top_k=None, top_p=1.0, seed=0):
        """Draw ``n`` images: float32 NumPy (n, height, width, channels) in [0, 1].

        The controls are those of ``decoding``, for each patch. The same seed gives the same
        images, and a larger ``n`` begins with them. Raises ``UserError`` for what is out of range.
        """
        check_whole("n", n, 1)
        controls = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        return self.tokenizer.decode(super().generate(np.zeros(n, int), **controls))

    def cross_entropy(self, images):
        """Nats of each patch, given those before it: NumPy (n, length).

        images: (n, height, width, channels), uint8 or float in [0, 1], which are rounded to the
        model's levels first.
        """
        return super().cross_entropy(np.zeros(len(images), int), self.tokenizer.encode(images))

    def nats_per_image(self, images):
        """−log p of each image, rounded to the model's levels: NumPy (n,). Exact, no bound."""
        return self.cross_entropy(images).sum(1)


def build_pixels(image_shape=(28, 28, 1), levels=4, patch=2, **sizes):
    """A ``PixelGPT`` for images of (height, width, channels), its first weights a function of
    ``seed``. levels, patch: of ``PixelTokenizer``; sizes: the other options of ``PixelGPT``."""
    return PixelGPT(PixelTokenizer(image_shape, levels, patch), **sizes)


def load_pixels(name="pixels_mnist", image_shape=None):
    """Return a shipped ``PixelGPT``, ready to generate.

    Raises ``UserError`` if its file is not intact, or if it does not draw ``image_shape``.
    """
    return checkpoints.load(name, build_pixels, image_shape)
