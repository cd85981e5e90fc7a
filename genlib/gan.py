"""A generative adversarial network (Goodfellow et al. 2014) as one Keras model with one loss.

The network is a small DCGAN (Radford et al. 2016). Both players train in one step, by one
optimizer: each player's gradient comes from its own term of the loss alone.
"""

import numpy as np

from genlib import checkpoints
from genlib._backend import keras
from genlib.data import from_model
from genlib.layers import check_shape, update_average

layers, ops = keras.layers, keras.ops


def build_generator(image_shape, latent_dim, width):
    """Latent (batch, latent_dim) → image (batch, height, width, channels) in [-1, 1].

    Two transposed convolutions double the size twice, so height and width are multiples of 4.
    """
    height, breadth, channels = image_shape
    deep = (height // 4, breadth // 4, 3 * width)
    z = keras.Input((latent_dim,))
    x = layers.Dense(deep[0] * deep[1] * deep[2], use_bias=False)(z)
    x = layers.Reshape(deep)(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    for filters in (2 * width, 2 * width // 3):  # few at the full size, where each is dear
        x = layers.Conv2DTranspose(filters, 4, 2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Conv2D(channels, 3, padding="same", activation="tanh")(x)
    return keras.Model(z, x, name="generator")


def build_discriminator(image_shape, width):
    """Image (batch, height, width, channels) in [-1, 1] → logit (batch, 1), positive for real."""
    image = keras.Input(image_shape)
    x = image
    for filters, kernel in ((width, 4), (2 * width, 3), (4 * width, 3)):
        x = layers.Conv2D(filters, kernel, 2, padding="same")(x)
        x = layers.LeakyReLU(0.2)(x)
    x = layers.Dense(1)(layers.Flatten()(x))
    return keras.Model(image, x, name="discriminator")


def discriminator_loss(real_logits, fake_logits):
    """−E log D(x) − E log(1 − D(G(z))), from logits (batch, 1); a scalar in nats."""
    return ops.mean(ops.softplus(-real_logits)) + ops.mean(ops.softplus(fake_logits))


def generator_loss(fake_logits):
    """−E log D(G(z)), the non-saturating loss, from logits (batch, 1); a scalar in nats."""
    return ops.mean(ops.softplus(-fake_logits))


@keras.saving.register_keras_serializable(package="genlib")
class PlayerAdam(keras.optimizers.Adam):
    """Adam with a rate for each player: the generator's is ``generator_ratio`` times as high.

    Two time scales are Heusel et al.'s (2017); their proof has a fast D. Here the default is a
    fast G.
    """

    def __init__(self, learning_rate=5e-4, generator_ratio=3.0, beta_1=0.5, **kwargs):
        super().__init__(learning_rate, beta_1=beta_1, **kwargs)
        self.generator_ratio = generator_ratio

    def build(self, variables):
        super().build(variables)
        players = [getattr(v, "player", None) for v in variables]
        self.ratios = [self.generator_ratio if p == "generator" else 1.0 for p in players]

    def update_step(self, gradient, variable, learning_rate):
        ratio = self.ratios[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * ratio)

    def get_config(self):
        return super().get_config() | {"generator_ratio": self.generator_ratio}


@keras.saving.register_keras_serializable(package="genlib")
class GAN(keras.Model):
    """A generator and a discriminator that train together under plain ``fit``.

    generator: latent (batch, latent_dim) → image; discriminator: image → logit (batch, 1), such as
    ``build_generator`` and ``build_discriminator`` make. seed: of the latents in training.

    ``fit`` takes images in [-1, 1]. ``generate`` uses an exponential moving average of the
    generator's weights.
    """

    def __init__(self, generator, discriminator, seed=0):
        super().__init__()
        self.generator, self.discriminator, self.seed = generator, discriminator, seed
        self.latent_dim = generator.input_shape[-1]
        for variable in generator.trainable_variables:
            variable.player = "generator"  # PlayerAdam asks
        self.average = keras.models.clone_model(generator)
        self.average.trainable = False
        self.average.set_weights(generator.get_weights())
        self.updates = self.add_weight((), initializer="zeros", trainable=False, name="updates")
        self.noise = keras.random.SeedGenerator(seed)
        names = ("d_loss", "g_loss", "d_real", "d_fake")
        self.trackers = [keras.metrics.Mean(name) for name in names]
        self.built = True

    @property
    def metrics(self):
        return self.trackers

    def call(self, images, training=False):
        """Return three logits (batch, 1): of real, of generated, of generated as G sees them."""
        z = keras.random.normal((ops.shape(images)[0], self.latent_dim), seed=self.noise)
        fake = self.generator(z, training=training)
        # D's weights, read once: TensorFlow may put a second read after the step's update of D.
        weights = [ops.copy(w) for w in self.discriminator.trainable_variables]
        real_logits = self.discriminate(weights, images, training)
        fake_logits = self.discriminate(weights, ops.stop_gradient(fake), training)
        # The same discriminator with its weights frozen: G's loss passes through it to G alone.
        judged = self.discriminate([ops.stop_gradient(w) for w in weights], fake, training)
        if training:
            self.updates.assign_add(1.0)
            update_average(self.average, self.generator, self.updates)
        return real_logits, fake_logits, judged

    def discriminate(self, weights, images, training):
        """Return the discriminator's logits (batch, 1), its trainable weights given."""
        state = self.discriminator.non_trainable_variables  # such as the seeds of a dropout
        logits, after = self.discriminator.stateless_call(weights, state, images, training=training)
        for variable, value in zip(state, after, strict=True):
            variable.assign(value)
        return logits

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        real_logits, fake_logits, judged = y_pred
        d_loss, g_loss = discriminator_loss(real_logits, fake_logits), generator_loss(judged)
        d_real = ops.mean(ops.cast(real_logits > 0, "float32"))  # share of real taken for real
        d_fake = ops.mean(ops.cast(fake_logits < 0, "float32"))  # share of fakes found out
        for tracker, value in zip(self.trackers, (d_loss, g_loss, d_real, d_fake), strict=True):
            tracker.update_state(value)
        return d_loss + g_loss

    def generate(self, n=None, seed=0, latents=None):
        """Draw ``n`` images: float32 NumPy (n, height, width, channels) in [0, 1].

        The same seed gives the same images. ``latents`` (n, latent_dim) fixes the vectors instead.
        """
        if latents is None:
            latents = np.random.default_rng(seed).standard_normal((n, self.latent_dim), "float32")
        parts = [
            from_model(self.average(latents[i : i + 250], training=False))
            for i in range(0, len(latents), 250)
        ]
        return np.concatenate(parts)

    def get_config(self):
        parts = {"generator": self.generator, "discriminator": self.discriminator}
        config = {k: keras.saving.serialize_keras_object(part) for k, part in parts.items()}
        return config | {"seed": self.seed}

    @classmethod
    def from_config(cls, config):
        parts = [config[key] for key in ("generator", "discriminator")]
        return cls(*map(keras.saving.deserialize_keras_object, parts), seed=config["seed"])


def build_gan(image_shape=(28, 28, 1), latent_dim=64, width=24, seed=0):
    """A ``GAN`` of the course's two networks, its first weights a function of ``seed``.

    image_shape: (height, width, channels), the sides multiples of 4, at least 8; width: filters of
    the discriminator's first layer; the others have multiples of it.
    """
    check_shape(image_shape)
    keras.utils.set_random_seed(seed)
    generator = build_generator(image_shape, latent_dim, width)
    return GAN(generator, build_discriminator(image_shape, width), seed)


def load_gan(name="gan_mnist", image_shape=None):
    """Return a shipped ``GAN``, ready to generate.

    Raises ``UserError`` if its file is not intact, or if it does not draw ``image_shape``.
    """
    return checkpoints.load(name, build_gan, image_shape)
