"""A generative adversarial network (Goodfellow et al. 2014) as one Keras model with one loss.

The network is a small DCGAN (Radford et al. 2016). Both players train in one step, by one
optimizer: each player's gradient comes from its own term of the loss alone. ``ConditionalGAN``
tells both a label (Mirza & Osindero 2014; Miyato & Koyama 2018).
"""

import numpy as np

from genlib import UserError
from genlib.data import checkpoints
from genlib.data.images import to_unit
from genlib.models.blocks import check_labels, check_shape, draw_latents, in_batches, named_options
from genlib.training.backend import keras
from genlib.training.optimizers import update_average

layers, ops = keras.layers, keras.ops


def build_generator(image_shape, latent_dim, width):
    """Latent (batch, latent_dim) → image (batch, height, width, channels) in [-1, 1].

    Two transposed convolutions double the size twice, so height and width are multiples of 4.
    """
    h, w, channels = image_shape
    deep = (h // 4, w // 4, 3 * width)
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


def build_told_generator(image_shape, latent_dim, width, num_classes):
    """[latent (batch, latent_dim), class weights (batch, num_classes)] → image as of
    ``build_generator``, whose input is the latent with the embedding of the label beside it."""
    z, label = keras.Input((latent_dim,)), keras.Input((num_classes,))
    embedding = layers.Dense(latent_dim, use_bias=False, name="embedding")(label)
    draw = build_generator(image_shape, 2 * latent_dim, width)
    image = draw(layers.Concatenate()([z, embedding]))
    return keras.Model([z, label], image, name="told_generator")


def project(features, label):
    """ψ(φ(x)) + e(y)·φ(x), the projection discriminator's logit (Miyato & Koyama 2018, eq. 3).

    features: φ(x), a Keras tensor (batch, d); label: class weights (batch, num_classes). ψ is a
    dense layer "score", e one without a bias, "embedding". Returns logits (batch, 1).
    """
    embedding = layers.Dense(features.shape[-1], use_bias=False, name="embedding")(label)
    score = layers.Dense(1, name="score")(features)
    return layers.Add()([score, layers.Dot(axes=1)([embedding, features])])


def build_told_discriminator(image_shape, width, num_classes):
    """[image in [-1, 1], class weights (batch, num_classes)] → logit (batch, 1), positive for real
    images of that class. φ is what ``build_discriminator`` has before its last layer."""
    label, judge = keras.Input((num_classes,)), build_discriminator(image_shape, width)
    features = judge.layers[-2].output  # flat: (batch, d)
    return keras.Model([judge.input, label], project(features, label), name="told_discriminator")


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

    @named_options
    def generate(self, n=None, *, seed=0, latents=None):
        """Draw ``n`` images: float32 NumPy (n, height, width, channels) in [0, 1].

        The same seed gives the same images; ``latents`` (n, latent_dim) fixes the vectors instead.
        Raises ``UserError`` for what does not fit.
        """
        latents = draw_latents(n, (self.latent_dim,), seed, latents)
        (images,) = in_batches(lambda z: [self.average(z, training=False)], latents, size=250)
        return to_unit(images)

    def get_config(self):
        parts = {"generator": self.generator, "discriminator": self.discriminator}
        config = {k: keras.saving.serialize_keras_object(part) for k, part in parts.items()}
        return config | {"seed": self.seed}

    @classmethod
    def from_config(cls, config):
        parts = [config[key] for key in ("generator", "discriminator")]
        return cls(*map(keras.saving.deserialize_keras_object, parts), seed=config["seed"])


@keras.saving.register_keras_serializable(package="genlib")
class ConditionalGAN(GAN):
    """A ``GAN`` whose two players are told a label.

    generator: [latent (batch, latent_dim), class weights (batch, num_classes)] → image;
    discriminator: [image, class weights] → logit (batch, 1), such as ``build_told_generator`` and
    ``build_told_discriminator`` make. Class weights are 1 for the label and 0 for the others.

    ``fit`` takes images in [-1, 1] and labels, whole numbers (batch,), else raises ``UserError``.
    """

    def __init__(self, generator, discriminator, seed=0):
        super().__init__(generator, discriminator, seed)
        (_, self.latent_dim), (_, self.num_classes) = generator.input_shape

    def call(self, images, training=False):
        """Draw the latents (batch, latent_dim). The rest needs the labels: see ``compute_loss``."""
        return keras.random.normal((ops.shape(images)[0], self.latent_dim), seed=self.noise)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if y is None:
            raise UserError(f"this model has {self.num_classes} classes: fit(images, labels).")
        label = ops.one_hot(ops.cast(y, "int32"), self.num_classes)  # of real and generated alike
        fake = self.generator([y_pred, label], training=training)
        weights = [ops.copy(w) for w in self.discriminator.trainable_variables]
        frozen = [ops.stop_gradient(w) for w in weights]
        real_logits = self.discriminate(weights, [x, label], training)
        fake_logits = self.discriminate(weights, [ops.stop_gradient(fake), label], training)
        judged = self.discriminate(frozen, [fake, label], training)
        if training:
            self.updates.assign_add(1.0)
            update_average(self.average, self.generator, self.updates)
        return GAN.compute_loss(self, y_pred=(real_logits, fake_logits, judged))

    def fit(self, x=None, y=None, **kwargs):
        if isinstance(x, np.ndarray) and y is not None:
            check_labels(y, len(x), self.num_classes)
        return super().fit(x, y, **kwargs)

    @named_options
    def generate(self, n=None, *, labels=None, seed=0, latents=None):
        """Draw images: float32 NumPy (n, height, width, channels) in [0, 1].

        labels: a whole number, or one for each image (n,), or weights of the classes (n,
        num_classes) from 0 up that sum to 1, which mix their embeddings; None takes the classes in
        turn: 0, 1, 2, …, and again from 0. ``n`` may be left out where labels or latents give it.
        The same seed gives the same images; ``latents`` (n, latent_dim) fixes the vectors instead.
        Raises ``UserError`` for what does not fit.
        """
        latents = draw_latents(n, (self.latent_dim,), seed, latents, labels)
        n = len(latents)
        labels = np.arange(n) % self.num_classes if labels is None else np.asarray(labels)

        def draw(z, label):
            return [self.average([z, label], training=False)]

        (images,) = in_batches(draw, latents, self.class_weights(labels, n), size=250)
        return to_unit(images)

    def class_weights(self, labels, n):
        """Labels as ``generate`` takes them, an array → class weights, float32 (n, num_classes);
        ``UserError`` for what does not fit."""
        if labels.dtype.kind != "f" or labels.ndim != 2:
            return np.eye(self.num_classes, dtype="float32")[
                check_labels(labels, n, self.num_classes)
            ]
        if labels.shape != (n, self.num_classes):
            raise UserError(
                f"the class weights have shape {labels.shape}; {n} images of this model need "
                f"({n}, {self.num_classes})."
            )
        sums = labels.sum(1)
        if not (labels.min() >= 0 and abs(sums - 1).max() < 1e-4):  # NaN fails the comparison too
            raise UserError(
                f"the class weights are {labels.min()} at least and their sums go from "
                f"{sums.min():g} to {sums.max():g}; give weights from 0 up that sum to 1."
            )
        return labels.astype("float32")


def build_gan(image_shape=(28, 28, 1), latent_dim=64, width=24, seed=0, num_classes=0):
    """A ``GAN`` of the course's two networks, its first weights a function of ``seed``.

    image_shape: (height, width, channels), sides multiples of 4, at least 8, else ``UserError``;
    width: filters of the discriminator's first layer, of which the others have multiples.
    num_classes: if not 0, both are told a label, and the model is a ``ConditionalGAN``.
    """
    check_shape(image_shape)
    keras.utils.set_random_seed(seed)
    if num_classes:
        generator = build_told_generator(image_shape, latent_dim, width, num_classes)
        judge = build_told_discriminator(image_shape, width, num_classes)
        return ConditionalGAN(generator, judge, seed)
    generator = build_generator(image_shape, latent_dim, width)
    return GAN(generator, build_discriminator(image_shape, width), seed)


def load_gan(name="gan_mnist", image_shape=None):
    """Return a shipped ``GAN`` (``ConditionalGAN`` if it has classes), ready to generate.

    Raises ``UserError`` if its file is not intact, or if it does not draw ``image_shape``.
    """
    return checkpoints.load(name, build_gan, image_shape)
