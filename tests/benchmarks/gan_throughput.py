"""Training of the course's GAN beside that of TensorFlow's DCGAN tutorial, on 28×28 grey images.

The tutorial is https://www.tensorflow.org/tutorials/generative/dcgan: its two networks, its batch
size of 256 and its training step with two tapes. Ours is lesson 02's at its default scale.
"""

from pairs import Pair, by_fit, by_step, random_images

from genlib.data import to_model
from genlib.models import gan
from genlib.training.backend import keras

layers = keras.layers


def ours(images, batch_size=64):
    """A function that trains ``GAN`` once on the images."""
    model = gan.build_gan()
    model.compile(optimizer=gan.PlayerAdam())
    return by_fit(model, images, batch_size)


def tutorial(images, batch_size=256):
    """A function that trains the tutorial's networks once on the images, with its step."""
    import tensorflow as tf

    generator = keras.Sequential(
        [
            keras.Input((100,)),
            layers.Dense(7 * 7 * 256, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((7, 7, 256)),
            layers.Conv2DTranspose(128, 5, 1, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(64, 5, 2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(1, 5, 2, padding="same", use_bias=False, activation="tanh"),
        ]
    )
    discriminator = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(64, 5, 2, padding="same"),
            layers.LeakyReLU(),
            layers.Dropout(0.3),
            layers.Conv2D(128, 5, 2, padding="same"),
            layers.LeakyReLU(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    bce = keras.losses.BinaryCrossentropy(from_logits=True)
    optimizers = keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)

    @tf.function
    def step(real):
        noise = tf.random.normal([batch_size, 100])
        with tf.GradientTape() as g_tape, tf.GradientTape() as d_tape:
            fake = generator(noise, training=True)
            real_logits = discriminator(real, training=True)
            fake_logits = discriminator(fake, training=True)
            g_loss = bce(tf.ones_like(fake_logits), fake_logits)
            d_loss = bce(tf.ones_like(real_logits), real_logits)
            d_loss += bce(tf.zeros_like(fake_logits), fake_logits)
        pairs = ((g_tape, g_loss, generator), (d_tape, d_loss, discriminator))
        for optimizer, (tape, loss, player) in zip(optimizers, pairs, strict=True):
            weights = player.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    return by_step(step, to_model(images), batch_size)


def pairs():
    images = random_images(5_120)
    name = "GAN, training, beside TensorFlow's DCGAN tutorial"
    return [Pair(name, "images/s", (len(images),) * 2, ours(images), tutorial(images))]
