"""Training of the course's VAE class beside that of TensorFlow's CVAE tutorial, and a bound.

The tutorial is https://www.tensorflow.org/tutorials/generative/cvae: both train its two networks at
its batch size of 32 on 28×28 grey images; it, with its loss by single draws and its training step.
The bound is that of any training step with these networks on TensorFlow: their convolutions
forwards and backwards, and nothing else.
"""

import numpy as np
from pairs import Pair, by_fit, by_step, random_images

from genlib.data import to_model
from genlib.models import vae
from genlib.training.backend import keras

layers = keras.layers


def networks(heads):
    """The tutorial's encoder, with one output of two latents' numbers or two heads, and decoder."""
    image, z = keras.Input((28, 28, 1)), keras.Input((2,))
    x = layers.Conv2D(32, 3, 2, activation="relu")(image)
    x = layers.Flatten()(layers.Conv2D(64, 3, 2, activation="relu")(x))
    code = [layers.Dense(2)(x), layers.Dense(2)(x)] if heads else layers.Dense(4)(x)
    y = layers.Reshape((7, 7, 32))(layers.Dense(7 * 7 * 32, activation="relu")(z))
    y = layers.Conv2DTranspose(64, 3, 2, padding="same", activation="relu")(y)
    y = layers.Conv2DTranspose(32, 3, 2, padding="same", activation="relu")(y)
    y = layers.Conv2DTranspose(1, 3, 1, padding="same")(y)
    return keras.Model(image, code), keras.Model(z, y)


def ours(images, batch_size=32):
    """A function that trains ``VAE`` once on the images."""
    model = vae.VAE(*networks(heads=True))
    model.compile(optimizer=keras.optimizers.Adam(1e-4), steps_per_execution=8)
    return by_fit(model, images, batch_size)


def tutorial(images, batch_size=32):
    """A function that trains the tutorial's model once on the images, with its loss and step."""
    import tensorflow as tf

    encoder, decoder = networks(heads=False)
    optimizer = keras.optimizers.Adam(1e-4)
    log_2pi = tf.math.log(2.0 * np.pi)

    def log_normal_pdf(sample, mean, logvar):
        square = (sample - mean) ** 2.0 * tf.exp(-logvar)
        return tf.reduce_sum(-0.5 * (square + logvar + log_2pi), axis=1)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            mean, logvar = tf.split(encoder(x), num_or_size_splits=2, axis=1)
            z = tf.random.normal(shape=tf.shape(mean)) * tf.exp(logvar * 0.5) + mean
            x_logit = decoder(z)
            cross_ent = tf.nn.sigmoid_cross_entropy_with_logits(logits=x_logit, labels=x)
            logpx_z = -tf.reduce_sum(cross_ent, axis=[1, 2, 3])
            logpz = log_normal_pdf(z, 0.0, 0.0)
            logqz_x = log_normal_pdf(z, mean, logvar)
            loss = -tf.reduce_mean(logpx_z + logpz - logqz_x)
        weights = encoder.trainable_variables + decoder.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    binary = np.where(to_model(images) > 0, 1.0, 0.0).astype("float32")
    return by_step(step, binary, batch_size)


def networks_alone(count, batch_size=32):
    """A function that runs the networks forwards and backwards on ``count`` images, without a loss,
    noise, an optimizer or an input pipeline."""
    import tensorflow as tf

    encoder, decoder = networks(heads=False)
    weights = encoder.trainable_variables + decoder.trainable_variables
    x = tf.random.normal((batch_size, 28, 28, 1))

    @tf.function
    def steps(count):
        used = 0.0
        for _ in tf.range(count):
            with tf.GradientTape() as tape:
                output = decoder(encoder(x + 1e-9 * used)[:, :2])
                total = tf.reduce_mean(output)
            # Used, and needed by the next step: nothing is optimised away.
            used += tf.add_n([tf.reduce_sum(g) for g in tape.gradient(total, weights)])
        return used

    return lambda: steps(tf.constant(count // batch_size))


def pairs():
    images = random_images(12_800)
    course, counts = ours(images), (len(images),) * 2
    name = "VAE, training, beside TensorFlow's CVAE tutorial"
    bound = "VAE, training, beside its networks alone, without loss and optimizer"
    return [
        Pair(name, "images/s", counts, course, tutorial(images)),
        Pair(bound, "images/s", counts, course, networks_alone(len(images))),
    ]
