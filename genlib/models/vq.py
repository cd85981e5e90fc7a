"""Images as codes: an autoencoder between whose halves stands a quantiser.

VQ-VAE (van den Oord et al. 2017) with a codebook that follows averages and restarts dead codes, and
FSQ (Mentzer et al. 2023), whose codebook is a fixed grid.
"""

import numpy as np

from genlib import UserError, check_whole
from genlib.data import checkpoints
from genlib.data.images import to_unit
from genlib.models.blocks import check_shape, in_batches
from genlib.training.backend import keras

layers, ops = keras.layers, keras.ops
STRIDES = (2, 4, 8)


def nearest_codes(vectors, codebook):
    """The nearest row of the codebook (num_codes, dim) for each vector (n, dim): int32 (n,).

    |v − e|² = |v|² − 2 v·e + |e|², and |v|² is the same for all rows.
    """
    scores = ops.sum(ops.square(codebook), axis=1) - 2.0 * ops.matmul(
        vectors, ops.transpose(codebook)
    )
    return ops.cast(ops.argmin(scores, axis=1), "int32")


def straight_through(vectors, quantised):
    """``quantised``, whose gradient arrives at ``vectors`` as if nothing lay between the two
    (Bengio et al. 2013): rounding itself has the gradient 0 almost everywhere."""
    return vectors + ops.stop_gradient(quantised - vectors)


@keras.saving.register_keras_serializable(package="genlib")
class VectorQuantizer(layers.Layer):
    """Each vector becomes the nearest of a codebook: (…, dim) → the same.

    num_codes, dim: size of the codebook. decay: of the running averages that move it in training,
    each code to the mean of the vectors that chose it (van den Oord et al. 2017, appendix A.1): an
    online k-means. restart: a code whose average use falls below this share of an even use is dead,
    and starts again at a vector of the batch (Dhariwal et al. 2020); 0 for never. seed: of these.

    Raises ``UserError`` for fewer than 2 codes.
    """

    def __init__(self, num_codes, dim, decay=0.98, restart=0.03, seed=0, **kwargs):
        super().__init__(**kwargs)
        check_whole("num_codes", num_codes, 2)
        self.num_codes, self.dim = num_codes, dim
        self.decay, self.restart, self.seed = decay, restart, seed
        self.noise = keras.random.SeedGenerator(seed)

    def build(self, shape):
        start = keras.initializers.RandomNormal(seed=self.seed)
        size, fixed = (self.num_codes, self.dim), {"trainable": False}
        self.codebook = self.add_weight(size, start, name="codebook", **fixed)
        self.uses = self.add_weight((self.num_codes,), "zeros", name="uses", **fixed)
        self.sums = self.add_weight(size, "zeros", name="sums", **fixed)

    def call(self, z, training=False):
        flat = ops.reshape(z, (-1, self.dim))
        codes = nearest_codes(flat, self.codebook)
        quantised = ops.reshape(ops.take(self.codebook, codes, axis=0), ops.shape(z))
        if training:
            self.move(ops.stop_gradient(flat), codes)
        return straight_through(z, quantised)

    def move(self, flat, codes):
        """One step of the codebook towards the vectors (n, dim) that chose its codes (n,)."""
        chosen = ops.one_hot(codes, self.num_codes)  # (n, num_codes)
        uses = self.decay * self.uses + (1.0 - self.decay) * ops.sum(chosen, axis=0)
        sums = self.decay * self.sums + (1.0 - self.decay) * ops.matmul(ops.transpose(chosen), flat)
        even = ops.cast(ops.shape(flat)[0], "float32") / self.num_codes
        if self.restart:
            rows = keras.random.randint((self.num_codes,), 0, ops.shape(flat)[0], seed=self.noise)
            dead = uses < self.restart * even
            uses = ops.where(dead, even, uses)
            sums = ops.where(dead[:, None], even * ops.take(flat, rows, axis=0), sums)
        self.uses.assign(uses)
        self.sums.assign(sums)
        alive = uses > 1e-6 * even
        means = sums / ops.where(alive, uses, 1.0)[:, None]
        self.codebook.assign(ops.where(alive[:, None], means, self.codebook.value))

    def codes(self, z):
        """Vectors (…, dim) → int32 codes (…), from 0."""
        flat = nearest_codes(ops.reshape(z, (-1, self.dim)), self.codebook)
        return ops.reshape(flat, ops.shape(z)[:-1])

    def vectors(self, codes):
        """Codes (…) → their vectors (…, dim)."""
        return ops.take(self.codebook, codes, axis=0)

    def get_config(self):
        names = ("num_codes", "dim", "decay", "restart", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="genlib")
class FiniteScalarQuantizer(layers.Layer):
    """Each number of a vector is squeezed and rounded to one of a few levels: (…, dim) → the same,
    in [-1, 1] (Mentzer et al. 2023). No codebook is learned, so none can collapse.

    levels: how many for each of the dim numbers, 2 or more; their product is the number of codes.
    Raises ``UserError`` for fewer.
    """

    def __init__(self, levels, **kwargs):
        super().__init__(**kwargs)
        if not len(levels) or min(levels) < 2:
            raise UserError(
                f"levels={list(levels)} is not possible; give 2 or more for each number."
            )
        self.levels = tuple(int(level) for level in levels)
        self.dim, self.num_codes = len(self.levels), int(np.prod(self.levels))
        self.halves = np.array(self.levels, "float32") // 2
        self.places = np.cumprod((1, *self.levels[:-1])).astype("int32")  # worth of each digit

    def bound(self, z):
        """Squeeze z (…, dim) so that rounding gives each of the levels, −⌊L/2⌋ and up."""
        levels = np.array(self.levels, "float32")
        half = (levels - 1) * 1.001 / 2  # a hair more, so that the ends can be reached
        offset = np.where(levels % 2 == 0, 0.5, 0.0).astype("float32")
        shift = np.arctanh(offset / half).astype("float32")
        return ops.tanh(z + shift) * half.astype("float32") - offset

    def call(self, z, training=False):
        bounded = self.bound(z)
        return straight_through(bounded, ops.round(bounded)) / self.halves

    def codes(self, z):
        """Vectors (…, dim) → int32 codes (…): their levels are the digits of the code."""
        digits = ops.cast(ops.round(self.bound(z)) + self.halves, "int32")
        return ops.sum(digits * self.places, axis=-1)

    def vectors(self, codes):
        """Codes (…) → their vectors (…, dim) in [-1, 1]."""
        digits = ops.convert_to_tensor(codes)[..., None] // self.places % np.int32(self.levels)
        return (ops.cast(digits, "float32") - self.halves) / self.halves

    def get_config(self):
        return super().get_config() | {"levels": self.levels}


def residual(x):
    """Look around in 3×3 and add what was found: (batch, height, width, filters) → the same."""
    filters = x.shape[-1]
    y = layers.Conv2D(filters, 3, padding="same", activation="silu")(layers.Activation("silu")(x))
    return x + layers.Conv2D(filters, 1)(y)


def build_encoder(image_shape, dim, width, stride):
    """Image (batch, height, width, channels) → a vector for each square of ``stride`` pixels:
    (batch, height / stride, width / stride, dim)."""
    image = keras.Input(image_shape)
    x, halvings = image, stride.bit_length() - 1  # stride = 2 to the power of it
    for i in range(halvings):
        filters = width if i + 1 < halvings else 2 * width
        x = layers.Conv2D(filters, 4, 2, padding="same", activation="silu")(x)
    return keras.Model(image, layers.Conv2D(dim, 1)(residual(residual(x))), name="encoder")


def build_decoder(image_shape, dim, width, stride):
    """The way back: (batch, height / stride, width / stride, dim) → pixels in about [-1, 1]."""
    height, across, channels = image_shape
    z = keras.Input((height // stride, across // stride, dim))
    x = residual(residual(layers.Conv2D(2 * width, 3, padding="same")(z)))
    for _ in range(stride.bit_length() - 2):
        x = layers.Conv2DTranspose(width, 4, 2, padding="same", activation="silu")(x)
    x = layers.Conv2DTranspose(channels, 4, 2, padding="same")(x)
    return keras.Model(z, x, name="decoder")


@keras.saving.register_keras_serializable(package="genlib")
class VQVAE(keras.Model):
    """An encoder, a quantiser and a decoder that train together under plain ``fit``.

    encoder: image → vectors (batch, h, w, dim), quantizer: those → as many of its own, decoder:
    back to pixels. commitment: β, the weight of what keeps the encoder near its codes; an FSQ has
    no use for it. ``fit`` takes images in [-1, 1], as does ``encode``, which checks them.
    """

    def __init__(self, encoder, quantizer, decoder, commitment=0.25):
        super().__init__()
        self.encoder, self.quantizer, self.decoder = encoder, quantizer, decoder
        self.commitment = commitment if isinstance(quantizer, VectorQuantizer) else 0.0
        self.code_shape = encoder.output_shape[1:3]
        self.trackers = [keras.metrics.Mean(name) for name in ("loss", "error", "perplexity")]
        if not quantizer.built:  # one that was saved comes back built
            quantizer.build(encoder.output_shape)
        self.built = True

    @property
    def metrics(self):
        return self.trackers

    def call(self, images, training=False):
        """Return the decoder's pixels, the encoder's vectors and the quantised ones."""
        z = self.encoder(images, training=training)
        quantised = self.quantizer(z, training=training)
        return self.decoder(quantised, training=training), z, quantised

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean squared error of pixels, and β |z − sg(e)|², a mean too (van den Oord et al. 2017,
        eq. 3, whose middle term the running averages replace)."""
        output, z, quantised = y_pred
        error = ops.mean(ops.square(output - x))
        distance = ops.mean(ops.square(z - ops.stop_gradient(quantised)))
        loss = error + self.commitment * distance
        for tracker, value in zip(self.trackers, (loss, error, self.perplexity(z)), strict=True):
            tracker.update_state(value)
        return loss

    def perplexity(self, z):
        """e to the entropy of the codes of one batch: as if so many were used, equally often."""
        codes = ops.reshape(self.quantizer.codes(z), (-1,))
        shares = ops.mean(ops.one_hot(codes, self.quantizer.num_codes), axis=0)
        return ops.exp(-ops.sum(shares * ops.log(shares + 1e-10)))

    def encode(self, images):
        """Images in [-1, 1] → int32 codes, NumPy (n, h, w). Raises ``UserError`` for others."""
        images = np.asarray(images, "float32")
        if images.shape[1:] != self.encoder.input_shape[1:] or not np.all(np.abs(images) <= 1):
            raise UserError(
                f"the images have shape {images.shape} and go from {images.min():g} to "
                f"{images.max():g}; this model takes (n, "
                f"{', '.join(map(str, self.encoder.input_shape[1:]))}) in [-1, 1], without NaN."
            )

        def codes(x):
            return [self.quantizer.codes(self.encoder(x, training=False))]

        return in_batches(codes, images, size=500)[0]

    def decode(self, codes):
        """Codes (n, h, w), or flat (n, h · w) → images, NumPy float32 in [0, 1].

        Raises ``UserError`` for another shape, and for numbers that are no codes.
        """
        codes, count = np.asarray(codes), self.quantizer.num_codes
        cells = int(np.prod(self.code_shape))
        whole = codes.ndim > 1 and codes.dtype.kind in "iu" and codes[0].size == cells
        if not (whole and np.all((codes >= 0) & (codes < count))):
            raise UserError(
                f"the codes are {codes.dtype} of shape {codes.shape}; an image is "
                f"{self.code_shape[0]}×{self.code_shape[1]} whole numbers from 0 to {count - 1}."
            )
        codes = codes.reshape(-1, *self.code_shape).astype("int32")

        def pixels(codes):
            return [self.decoder(self.quantizer.vectors(codes), training=False)]

        return to_unit(in_batches(pixels, codes, size=500)[0])

    def reconstruct(self, images):
        """Images in [-1, 1] → codes → images in [0, 1]."""
        return self.decode(self.encode(images))

    def get_config(self):
        parts = {"encoder": self.encoder, "quantizer": self.quantizer, "decoder": self.decoder}
        config = {k: keras.saving.serialize_keras_object(part) for k, part in parts.items()}
        return config | {"commitment": self.commitment}

    @classmethod
    def from_config(cls, config):
        parts = [config.pop(key) for key in ("encoder", "quantizer", "decoder")]
        return cls(*map(keras.saving.deserialize_keras_object, parts), **config)


def build_vqvae(
    image_shape=(28, 28, 1), num_codes=128, dim=8, width=32, stride=4, seed=0, **options
):
    """A ``VQVAE`` of the course's two networks, its first weights a function of ``seed``.

    num_codes: a number, for a ``VectorQuantizer`` of vectors of ``dim`` numbers; or a list of
    levels, for a ``FiniteScalarQuantizer`` (``dim`` is then their number). stride: side of the
    square of pixels that a code stands for: 2, 4 or 8, half the sides of the image at most and a
    divisor of them. options: of ``VectorQuantizer`` (decay, restart), and commitment of ``VQVAE``.
    Raises ``UserError`` for what does not fit.
    """
    if stride not in STRIDES:
        raise UserError(f"stride={stride!r} is not possible; give one of {STRIDES}.")
    check_shape(image_shape, stride)
    keras.utils.set_random_seed(seed)
    rest = {"commitment": options.pop("commitment", 0.25)}
    if np.ndim(num_codes) == 0:
        quantizer = VectorQuantizer(num_codes, dim, seed=seed, **options)
    else:
        quantizer = FiniteScalarQuantizer(num_codes, **options)
    encoder = build_encoder(image_shape, quantizer.dim, width, stride)
    return VQVAE(
        encoder, quantizer, build_decoder(image_shape, quantizer.dim, width, stride), **rest
    )


def load_vqvae(name="vq_mnist", image_shape=None):
    """Return a shipped ``VQVAE``, or raise ``UserError`` as ``checkpoints.load`` does."""
    return checkpoints.load(name, build_vqvae, image_shape)
