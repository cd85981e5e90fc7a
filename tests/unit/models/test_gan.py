"""One loss trains both players as two steps would, on TensorFlow and on JAX."""

import math

import numpy as np
import pytest
from numerics import assert_same, gradients

from genlib import UserError, data, metrics, runs, training
from genlib.data import checkpoints
from genlib.models import gan
from genlib.training.backend import keras

pytestmark = pytest.mark.backend
SIZES = {"image_shape": (8, 8, 1), "latent_dim": 8, "width": 4}


@pytest.fixture
def small():
    return gan.build_gan(**SIZES)


def compiled(model, rate=2e-3):
    model.compile(optimizer=keras.optimizers.Adam(rate, beta_1=0.5))
    return model


# The loss


def log_sigmoid(logits):
    return -np.logaddexp(0, -logits)


def test_the_losses_equal_their_formulas():
    real, fake = 10 * np.random.default_rng(0).standard_normal((2, 64, 1)).astype("float32")
    d_loss = -log_sigmoid(real).mean() - log_sigmoid(-fake).mean()
    assert float(gan.discriminator_loss(real, fake)) == pytest.approx(d_loss, rel=1e-5)
    assert float(gan.generator_loss(fake)) == pytest.approx(-log_sigmoid(fake).mean(), rel=1e-5)


def test_a_discriminator_that_cannot_tell_has_the_losses_of_a_coin():
    undecided = np.zeros((4, 1), "float32")
    assert float(gan.discriminator_loss(undecided, undecided)) == pytest.approx(2 * math.log(2))
    assert float(gan.generator_loss(undecided)) == pytest.approx(math.log(2))


def test_each_player_gets_the_gradient_that_two_separate_steps_would_give(small):
    images = np.random.default_rng(0).uniform(-1, 1, (6, 8, 8, 1)).astype("float32")
    seed_state = np.asarray(small.noise.state.value)
    z = keras.random.normal((6, 8), seed=small.noise)

    def single():
        small.noise.state.assign(seed_state)  # so that the model draws z
        return small.compute_loss(y_pred=small(images, training=False))

    def judge(x):
        return small.discriminator(x, training=False)

    def draw():
        return small.generator(z, training=False)

    alone = {
        "D": lambda: gan.discriminator_loss(judge(images), judge(draw())),
        "G": lambda: gan.generator_loss(judge(draw())),
    }
    players = {
        "D": small.discriminator.trainable_variables,
        "G": small.generator.trainable_variables,
    }
    for name, variables in players.items():
        of_one, of_two = gradients(single, variables), gradients(alone[name], variables)
        for one, two in zip(of_one, of_two, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
        # The other player's loss would have pulled here too, had it not been stopped.
        other = gradients(alone["G" if name == "D" else "D"], variables)
        assert max(abs(g).max() for g in other) > 1e-3


def test_the_average_takes_no_part_in_training(small):
    trained = {v.path for v in small.trainable_variables}
    players = (small.generator, small.discriminator)
    assert trained == {v.path for player in players for v in player.trainable_variables}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX reads no variables")
def test_a_step_reads_each_weight_of_the_discriminator_once(small):
    # Of two reads TensorFlow may put one after the update of the weight: G would sometimes get the
    # gradient through the new D, and no run would repeat another.
    import tensorflow as tf

    step = tf.function(lambda images: small(images, training=True))
    graph = step.get_concrete_function(tf.zeros((4, 8, 8, 1))).graph
    reads = [op.inputs[0] for op in graph.get_operations() if op.type == "ReadVariableOp"]
    captured = {id(inside): outside for outside, inside in graph.captures}
    read = [captured[id(handle)] for handle in reads]
    for weight in small.discriminator.trainable_variables:
        assert sum(handle is weight.value.handle for handle in read) == 1, weight.path


# Learning


def moments(images):
    flat = images.reshape(len(images), -1)
    return flat.mean(0), np.cov(flat.T)


@pytest.mark.once
def test_training_draws_better_than_one_who_always_draws_the_mean_digit(digits):
    model = gan.build_gan((8, 8, 1), latent_dim=16, width=8)
    model.compile(optimizer=gan.PlayerAdam(2e-3, generator_ratio=0.5))
    real = moments(digits.test_images / 255)
    of_the_mean = np.trace(real[1])  # the Fréchet distance of a point at the mean
    assert metrics.frechet_distance(*real, *moments(model.generate(500))) > of_the_mean
    history = model.fit(
        training.Batches(digits.images, 16).stream(), shuffle=False, epochs=7, verbose=0
    ).history
    assert metrics.frechet_distance(*real, *moments(model.generate(500))) < of_the_mean
    assert set(history) == {"d_loss", "g_loss", "d_real", "d_fake"}


def train(folder, epochs, images, resume=False):
    model = compiled(gan.build_gan(**SIZES))
    run = runs.Run("02_gan", {"run_dir": str(folder), "resume": resume})
    batches = training.Batches(images[:256], 64)
    recorder = training.fit(model, batches, run, epochs)
    assert recorder.initial_epoch == (2 if resume else 0)
    return model


def test_a_killed_run_that_resumes_ends_with_the_weights_of_one_that_was_not(tmp_path, digits):
    straight = train(tmp_path / "straight", 4, digits.images)
    killed = train(tmp_path / "killed", 2, digits.images)
    resumed = train(tmp_path / "killed", 4, digits.images, resume=True)
    assert_same(straight, resumed)
    assert not np.allclose(killed.generate(5), resumed.generate(5))


# Generating


def test_generate_gives_float_images_from_0_to_1(small):
    images = small.generate(7)
    assert images.shape == (7, 8, 8, 1) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1 and images.std() > 0


def test_generate_repeats_with_its_seed_and_differs_with_another(small):
    first, second, third = (small.generate(4, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, second) and not np.allclose(first, third)


def test_generate_draws_the_latents_that_it_is_given_in_any_number(small):
    z = np.random.default_rng(0).standard_normal((300, 8)).astype("float32")
    images = small.generate(latents=z)
    assert images.shape == (300, 8, 8, 1)
    np.testing.assert_allclose(small.generate(latents=z[260:]), images[260:], atol=1e-5)


def test_generate_uses_the_averaged_weights(small):
    before = small.generate(4)
    small.generator.set_weights([0 * w for w in small.generator.get_weights()])
    assert np.array_equal(small.generate(4), before)
    small.average.set_weights([0.5 * w for w in small.average.get_weights()])
    assert not np.allclose(small.generate(4), before)


def test_a_step_of_training_moves_the_average_towards_the_generator(small, digits):
    def learned(model):  # batch normalisation's own averages move within a step
        return [
            model.get_weights()[i] for i, v in enumerate(small.generator.weights) if v.trainable
        ]

    images = data.to_model(digits.images[:16])
    compiled(small).train_on_batch(images)
    slow, fast = learned(small.average), learned(small.generator)
    small.train_on_batch(images)
    kept = 3 / 12  # at the second step
    for now, old, new in zip(learned(small.average), slow, fast, strict=True):
        np.testing.assert_allclose(now, kept * old + (1 - kept) * new, rtol=1e-4, atol=1e-6)


@pytest.fixture
def stepped(small, digits):
    """A GAN after one step of ``PlayerAdam``, and its weights before."""
    small.compile(optimizer=gan.PlayerAdam(1e-3, generator_ratio=3.0))
    before = [np.asarray(w) for w in small.trainable_variables]
    small.train_on_batch(data.to_model(digits.images[:16]))
    return small, before


def test_player_adam_moves_the_generator_by_its_ratio(stepped):
    model, before = stepped
    ours = {id(v) for v in model.generator.trainable_variables}
    for variable, old in zip(model.trainable_variables, before, strict=True):
        # Adam's first step is its rate, whatever the gradient.
        rate = 3e-3 if id(variable) in ours else 1e-3
        assert abs(np.asarray(variable) - old).max() == pytest.approx(rate, rel=0.02)


def test_a_saved_model_draws_the_same_images_and_keeps_its_optimizer(stepped, tmp_path):
    model, _ = stepped
    model.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    assert np.array_equal(loaded.generate(4), model.generate(4))
    assert loaded.seed == model.seed and loaded.latent_dim == 8
    assert isinstance(loaded.optimizer, gan.PlayerAdam)
    assert loaded.optimizer.ratios == model.optimizer.ratios
    for kept, state in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        assert np.array_equal(np.asarray(kept), np.asarray(state))


def test_the_first_weights_are_a_function_of_the_seed():
    one, two, three = (gan.build_gan(**SIZES, seed=seed).generate(2) for seed in (1, 1, 2))
    assert np.array_equal(one, two) and not np.allclose(one, three)


@pytest.mark.once
@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 12, 3)])
def test_the_networks_fit_the_images(shape):
    model = gan.build_gan(shape, 8, 4)
    assert model.generator.output_shape == (None, *shape) == model.discriminator.input_shape
    assert model.discriminator.output_shape == (None, 1)


@pytest.mark.parametrize(
    "shape, words",
    [((30, 28, 1), "30×28.*32"), ((28, 30, 1), "28×30"), ((4, 4, 1), "4×4.*image_size=8")],
)
def test_images_that_two_doublings_cannot_draw_are_refused(shape, words):
    with pytest.raises(UserError, match=words):
        gan.build_gan(shape)


# The shipped model


def test_a_published_gan_loads_and_draws_the_same(small, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    checkpoints.publish(small, "gan_toy", parameters=SIZES)
    assert np.array_equal(gan.load_gan("gan_toy").generate(3), small.generate(3))
    with pytest.raises(UserError, match="draws images of"):
        gan.load_gan("gan_toy", (28, 28, 1))
