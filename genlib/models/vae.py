"""A variational autoencoder (Kingma & Welling 2014; Rezende et al. 2014), measured in nats.

The loss is the negative ELBO of an image, summed over its pixels and its latents, never averaged:
only then is it a bound on −log p(x).
"""

import numpy as np
from scipy.special import expit

from genlib import UserError, check_choice
from genlib.data import checkpoints
from genlib.data.images import to_unit
from genlib.models.blocks import check_shape, draw_latents, in_batches, named_options
from genlib.training.backend import keras

layers, ops = keras.layers, keras.ops
LIKELIHOODS = ("bernoulli", "gaussian")
PIXELS = ("mean", "mode", "draw")


def build_encoder(image_shape, latent_dim, width):
    """Image (batch, height, width, channels) → mean and log-variance of q(z|x), (batch, latent_dim)
    each. Two convolutions halve the size, so height and width are multiples of 4."""
    image = keras.Input(image_shape)
    x = image
    for filters in (width, 2 * width):
        x = layers.Conv2D(filters, 4, 2, padding="same", activation="silu")(x)
    x = layers.Dense(8 * width, activation="silu")(layers.Flatten()(x))
    heads = [layers.Dense(latent_dim, name=name)(x) for name in ("mean", "log_variance")]
    return keras.Model(image, heads, name="encoder")


def build_decoder(image_shape, latent_dim, width):
    """Latent (batch, latent_dim) → Bernoulli logits, or Gaussian means, of all pixels."""
    h, w, channels = image_shape
    deep = (h // 4, w // 4, 2 * width)
    z = keras.Input((latent_dim,))
    x = layers.Dense(8 * width, activation="silu")(z)
    x = layers.Dense(deep[0] * deep[1] * deep[2], activation="silu")(x)
    x = layers.Conv2DTranspose(width, 4, 2, padding="same", activation="silu")(
        layers.Reshape(deep)(x)
    )
    x = layers.Conv2DTranspose(channels, 4, 2, padding="same")(x)
    return keras.Model(z, x, name="decoder")


def bernoulli_nll(x, logits):
    """−log p(x|z) of binary images, in nats, summed over pixels: (batch,).

    x: −1 or 1; logits: ℓ = log p/(1−p) of the pixel being 1. Both (batch, ...).
    """
    bits = (x + 1.0) / 2.0
    return ops.sum(ops.softplus(logits) - bits * logits, axis=tuple(range(1, len(x.shape))))


def gaussian_nll(x, mean, log_scale):
    """−log N(x; mean, σ²) in nats, summed over pixels: (batch,). log_scale: log σ, a scalar.

    A density, of pixels in [-1, 1]: unlike a probability it can be above 1, and the nats negative.
    """
    squares = ops.square((x - mean) * ops.exp(-log_scale))
    nll = 0.5 * squares + log_scale + float(0.5 * np.log(2 * np.pi))
    return ops.sum(nll, axis=tuple(range(1, len(x.shape))))


def kl_divergence(mean, log_variance):
    """KL(N(μ, σ²) ‖ N(0, 1)) of each latent, in nats: −½(1 + log σ² − μ² − σ²), all ≥ 0.

    mean, log_variance and the result: (batch, latent_dim) (Kingma & Welling 2014, appendix B).
    """
    return -0.5 * (1.0 + log_variance - ops.square(mean) - ops.exp(log_variance))


def binarise(images, uniform):
    """Pixels in [-1, 1] → −1 or 1, the brighter the likelier 1; uniform: random, in [0, 1)."""
    return ops.where(uniform < (images + 1.0) / 2.0, 1.0, -1.0)


@keras.saving.register_keras_serializable(package="genlib")
class VAE(keras.Model):
    """An encoder and a decoder that train together under plain ``fit``.

    encoder: image → (mean, log_variance), decoder: latent → logits or means, such as
    ``build_encoder`` and ``build_decoder`` make. likelihood: "bernoulli", of images that are
    binarised anew each time they are seen, or "gaussian", with one learned σ for all pixels.

    beta: weight of the KL term; only 1 gives the ELBO (Higgins et al. 2017). free_bits: nats of
    each latent that cost nothing (Kingma et al. 2016). warmup: training steps over which the weight
    rises from 0 to beta (Bowman et al. 2016). seed: of all noise in training.

    ``fit`` takes images in [-1, 1], as do the methods. Raises ``UserError`` for an unknown option,
    and for images that are out of that range.
    """

    def __init__(
        self, encoder, decoder, likelihood="bernoulli", beta=1.0, free_bits=0.0, warmup=0, seed=0
    ):
        super().__init__()
        check_choice("likelihood", likelihood, LIKELIHOODS)
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.beta, self.free_bits, self.warmup, self.seed = beta, free_bits, warmup, seed
        self.latent_dim = decoder.input_shape[-1]
        self.log_scale = self.add_weight(
            (), initializer="zeros", trainable=likelihood == "gaussian", name="log_scale"
        )
        self.updates = self.add_weight((), initializer="zeros", trainable=False, name="updates")
        self.noise = keras.random.SeedGenerator(seed)
        self.trackers = [keras.metrics.Mean(name) for name in ("loss", "reconstruction", "kl")]
        self.built = True

    @property
    def metrics(self):
        return self.trackers

    def call(self, images, training=False):
        """Return what is observed, the decoder's output for one z ~ q(z|x), and q's two heads."""
        x = images
        if self.likelihood == "bernoulli":
            x = binarise(images, keras.random.uniform(ops.shape(images), seed=self.noise))
        mean, log_variance = self.encoder(x, training=training)
        epsilon = keras.random.normal(ops.shape(mean), seed=self.noise)
        z = mean + ops.exp(0.5 * log_variance) * epsilon
        return x, self.decoder(z, training=training), mean, log_variance

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        observed, output, mean, log_variance = y_pred
        reconstruction = ops.mean(self.nll(observed, output))
        kl = ops.mean(kl_divergence(mean, log_variance), axis=0)  # (latent_dim,)
        weight = self.beta
        if training and self.warmup:
            weight = self.beta * ops.minimum(1.0, self.updates / self.warmup)
            self.updates.assign_add(1.0)
        loss = reconstruction + weight * ops.sum(ops.maximum(kl, self.free_bits))
        for tracker, value in zip(self.trackers, (loss, reconstruction, ops.sum(kl)), strict=True):
            tracker.update_state(value)
        return loss

    def nll(self, x, output):
        """−log p(x|z) in nats (batch,), from the decoder's output for z."""
        if self.likelihood == "bernoulli":
            return bernoulli_nll(x, output)
        return gaussian_nll(x, output, self.log_scale)

    def fit(self, x=None, *args, **kwargs):
        if isinstance(x, np.ndarray):
            self._check(x)
        return super().fit(x, *args, **kwargs)

    def _check(self, images):
        low, high = np.min(images), np.max(images)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise UserError("the images hold NaN or infinite values; a VAE needs numbers.")
        if self.likelihood == "bernoulli" and (low < -1 or high > 1):
            raise UserError(
                f"the images go from {low:g} to {high:g}; a VAE with a Bernoulli likelihood takes "
                "[-1, 1], as data.to_model gives."
            )
        return np.asarray(images, "float32")

    def observe(self, images, seed=0):
        """What the model sees of images (n, ...) in [-1, 1]: one binarisation of them, drawn with
        ``seed``; with a Gaussian likelihood the images themselves. Float32 NumPy."""
        images = self._check(images)
        if self.likelihood == "gaussian":
            return images
        uniform = np.random.default_rng(seed).random(images.shape, "float32")
        return ops.convert_to_numpy(binarise(images, uniform))

    def encode(self, images):
        """Mean and log-variance of q(z|x) for images as they are, NumPy (n, latent_dim) each."""
        return in_batches(self.encoder, self._check(images), size=500)

    def decode(self, latents, pixels="mean", seed=0):
        """What p(x|z) looks like: NumPy images (n, height, width, channels) in [0, 1].

        pixels: "mean", each pixel's expectation, soft where the model is unsure; "mode", each
        pixel's likeliest value, for a Gaussian likelihood the same as the mean; or "draw", a
        sample, each pixel drawn apart from its neighbours with ``seed``, cut to [0, 1]. Raises
        ``UserError`` for another word.
        """
        check_choice("pixels", pixels, PIXELS)
        (output,) = in_batches(lambda z: [self.decoder(z, training=False)], latents, size=500)
        rng, gaussian = np.random.default_rng([seed, 2]), self.likelihood == "gaussian"
        if pixels == "draw" and gaussian:
            noise = rng.standard_normal(output.shape, "float32")
            output = output + np.exp(ops.convert_to_numpy(self.log_scale)) * noise
        elif pixels == "draw":
            return (rng.random(output.shape, "float32") < expit(output)).astype("float32")
        if gaussian:
            return to_unit(output)
        return expit(output) if pixels == "mean" else (output > 0).astype("float32")

    def reconstruct(self, images):
        """Encode images in [-1, 1] and decode the means: NumPy, in [0, 1]."""
        return self.decode(self.encode(images)[0])

    @named_options
    def generate(self, n=None, *, seed=0, temperature=1.0, pixels="mode", latents=None):
        """Draw z ~ N(0, temperature² I) and decode: NumPy (n, height, width, channels) in [0, 1].

        The same seed gives the same images. pixels: of ``decode``. ``latents`` (n, latent_dim)
        fixes the vectors instead. Raises ``UserError`` for what does not fit.
        """
        latents = draw_latents(n, (self.latent_dim,), seed, latents)
        return self.decode(temperature * latents, pixels, seed)

    def elbo_terms(self, images, seed=0):
        """−log p(x|z) of one z ~ q(z|x), NumPy (n,), and the KL of each latent (n, latent_dim).

        images in [-1, 1]; both in nats: ELBO = −(first + second.sum(1)).
        """
        rng, x = np.random.default_rng([seed, 1]), self.observe(images, seed)

        def terms(x):
            mean, log_variance = self.encoder(x, training=False)
            epsilon = rng.standard_normal(mean.shape, "float32")
            output = self.decoder(mean + ops.exp(0.5 * log_variance) * epsilon, training=False)
            return self.nll(x, output), kl_divergence(mean, log_variance)

        return in_batches(terms, x, size=500)

    def log_likelihood(self, images, k=50, seed=0):
        """log 1/k Σᵢ p(x, zᵢ)/q(zᵢ|x) with zᵢ ~ q(z|x): NumPy (n,), in nats, for images in [-1, 1].

        A lower bound on log p(x) in expectation, the tighter the larger k (Burda et al. 2016,
        eq. 8); with k=1 it is the ELBO, estimated from one z.
        """
        rng, x = np.random.default_rng([seed, 1]), self.observe(images, seed)

        def bound(x):
            return [ops.logsumexp(self.log_weights(x, k, rng), axis=0) - float(np.log(k))]

        return in_batches(bound, x, size=max(1, 2000 // k))[0]

    def log_weights(self, x, k, rng):
        """log p(x, z)/q(z|x) for k draws z ~ q(z|x), of observed images x (batch, ...): (k, batch).

        rng: NumPy's generator, which draws.
        """
        mean, log_variance = self.encoder(x, training=False)
        epsilon = rng.standard_normal((k, *mean.shape), "float32")
        z = mean + ops.exp(0.5 * log_variance) * epsilon  # (k, batch, latent_dim)
        # log p(z) − log q(z|x); the terms with 2π cancel
        ratio = 0.5 * ops.sum(ops.square(epsilon) + log_variance - ops.square(z), axis=-1)
        output = self.decoder(ops.reshape(z, (-1, self.latent_dim)), training=False)
        repeated = ops.tile(x, (k, *[1] * (len(x.shape) - 1)))
        return ratio - ops.reshape(self.nll(repeated, output), (k, -1))

    def get_config(self):
        parts = {"encoder": self.encoder, "decoder": self.decoder}
        config = {k: keras.saving.serialize_keras_object(part) for k, part in parts.items()}
        names = ("likelihood", "beta", "free_bits", "warmup", "seed")
        return config | {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config):
        parts = [config.pop(key) for key in ("encoder", "decoder")]
        return cls(*map(keras.saving.deserialize_keras_object, parts), **config)


def build_vae(image_shape=(28, 28, 1), latent_dim=32, width=16, seed=0, **options):
    """A ``VAE`` of the course's two networks, its first weights a function of ``seed``.

    image_shape: (height, width, channels), the sides multiples of 4, at least 8; width: filters of
    the first convolution; options: of ``VAE`` (likelihood, beta, free_bits, warmup). Raises
    ``UserError`` for other sides.
    """
    check_shape(image_shape)
    keras.utils.set_random_seed(seed)
    encoder = build_encoder(image_shape, latent_dim, width)
    return VAE(encoder, build_decoder(image_shape, latent_dim, width), seed=seed, **options)


def load_vae(name="vae_mnist", image_shape=None):
    """Return a shipped ``VAE``, ready to generate.

    Raises ``UserError`` if its file is not intact, or if it does not draw ``image_shape``.
    """
    return checkpoints.load(name, build_vae, image_shape)
