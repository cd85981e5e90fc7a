"""A GAN that is told labels: what its critic computes, what it draws, what it refuses."""

import numpy as np
import pytest
from numerics import assert_same, gradients
from scipy.stats import norm

from genlib import UserError, data, metrics, runs, training
from genlib.data import checkpoints
from genlib.models import gan
from genlib.training.backend import keras

pytestmark = pytest.mark.backend
SIZES = {"image_shape": (8, 8, 1), "latent_dim": 8, "width": 4, "num_classes": 3}


@pytest.fixture
def small():
    return gan.build_gan(**SIZES)


@pytest.fixture
def batch():
    """Images in [-1, 1] and their labels."""
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (6, 8, 8, 1)).astype("float32"), np.arange(6) % 3


def latents(n):
    return np.random.default_rng(0).standard_normal((n, 8)).astype("float32")


# The critic


def test_the_projection_is_the_log_ratio_of_gaussians_of_equal_covariance():
    means, others = np.array([-2.0, 0.0, 2.0]), np.array([0.0, 2.0, 1.0])
    features, label = keras.Input((2,)), keras.Input((3,))
    critic = keras.Model([features, label], gan.project(features, label))
    shared = np.array([0.5, -1.0])  # any part of it may stand in ψ, which all classes have
    embedding = np.stack([means - others, (others**2 - means**2) / 2], 1) - shared
    critic.get_layer("embedding").set_weights([embedding])
    critic.get_layer("score").set_weights([shared[:1, None] * [[1], [0]], shared[1:]])
    x, y = np.linspace(-3, 3, 21), np.arange(21) % 3
    inputs = [np.stack([x, np.ones(21)], 1).astype("float32"), np.eye(3, dtype="float32")[y]]
    ratio = norm.logpdf(x, means[y]) - norm.logpdf(x, others[y])
    np.testing.assert_allclose(np.asarray(critic(inputs))[:, 0], ratio, atol=1e-5)


@pytest.mark.once
def test_the_critic_ends_in_the_projection_of_its_own_features(small, batch):
    images, label = batch[0], np.eye(3, dtype="float32")[batch[1]]
    critic = small.discriminator
    features = keras.Model(critic.input, critic.get_layer("score").input)([images, label])
    e, (score, bias) = (critic.get_layer(name).get_weights() for name in ("embedding", "score"))
    features = np.asarray(features)
    by_hand = features @ score + bias + (e[0][batch[1]] * features).sum(1)[:, None]
    np.testing.assert_allclose(np.asarray(critic([images, label])), by_hand, atol=1e-5)
    assert not np.allclose(critic([images, label]), critic([images, label[::-1]]))


@pytest.mark.once
def test_each_player_gets_the_gradient_that_two_separate_steps_would_give(small, batch):
    images, labels = map(keras.ops.convert_to_tensor, batch)
    label, z = keras.ops.one_hot(labels, 3), keras.ops.convert_to_tensor(latents(6))

    def single():
        return small.compute_loss(images, labels, z, training=False)

    def judge(x):
        return small.discriminator([x, label], training=False)

    def draw():
        return small.generator([z, label], training=False)

    alone = {
        small.discriminator: lambda: gan.discriminator_loss(judge(images), judge(draw())),
        small.generator: lambda: gan.generator_loss(judge(draw())),
    }
    for player, loss in alone.items():
        variables = player.trainable_variables
        pairs = zip(gradients(single, variables), gradients(loss, variables), strict=True)
        for of_one, of_two in pairs:
            assert abs(of_two).max() > 0
            np.testing.assert_allclose(of_one, of_two, rtol=1e-4, atol=1e-6)


# Learning


@pytest.mark.once
def test_training_makes_it_draw_what_is_asked_for(digits):
    model = gan.build_gan((8, 8, 1), latent_dim=16, width=16, num_classes=10)
    model.compile(optimizer=gan.PlayerAdam(4e-3, generator_ratio=0.5))
    judge, asked = metrics.Judge.shipped("digits"), np.arange(200) % 10

    def obeyed():
        return np.mean(judge(model.generate(200))[1] == asked)

    assert obeyed() < 0.3  # 0.1 is chance
    batches = training.Batches(digits.images, 32, labels=digits.labels)
    history = model.fit(batches.stream(), shuffle=False, epochs=8, verbose=0).history
    assert obeyed() > 0.7
    assert set(history) == {"d_loss", "g_loss", "d_real", "d_fake"}


def train(folder, epochs, digits, resume=False):
    model = gan.build_gan(**SIZES)
    model.compile(optimizer=gan.PlayerAdam())
    run = runs.Run("03_conditional_gan", {"run_dir": str(folder), "resume": resume})
    recorder = training.fit(
        model, training.Batches(digits.images[:256], 64, 0, digits.labels % 3), run, epochs
    )
    assert recorder.initial_epoch == (2 if resume else 0)
    return model


@pytest.mark.once
def test_a_killed_run_that_resumes_ends_with_the_weights_of_one_that_was_not(tmp_path, digits):
    straight = train(tmp_path / "straight", 4, digits)
    killed = train(tmp_path / "killed", 2, digits)
    resumed = train(tmp_path / "killed", 4, digits, resume=True)
    assert_same(straight, resumed)
    assert not np.allclose(killed.generate(5), resumed.generate(5))


def test_training_needs_whole_labels_that_it_knows(small, batch):
    images, labels = batch
    small.compile(optimizer=gan.PlayerAdam())
    with pytest.raises(UserError, match="this model has 3 classes"):
        small.fit(images, verbose=0)
    for wrong, words in [
        (labels + 1, "1 to 3"),
        (labels / 2, "float64"),
        (labels[:5], "6 of them"),
    ]:
        with pytest.raises(UserError, match=words):
            small.fit(images, wrong, verbose=0)
    with pytest.raises(UserError, match="one whole number or 6"):
        small.fit(images, np.eye(3)[labels], verbose=0)


# Generating


def test_generate_gives_float_images_from_0_to_1(small):
    images = small.generate(7)
    assert images.shape == (7, 8, 8, 1) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1 and images.std() > 0


def test_without_labels_the_classes_come_in_turn(small):
    assert np.array_equal(
        small.generate(7, seed=1), small.generate(7, labels=np.arange(7) % 3, seed=1)
    )


def test_one_label_holds_for_all_images(small):
    assert np.array_equal(small.generate(4, labels=2), small.generate(labels=[2, 2, 2, 2]))


def test_the_same_latent_gives_another_image_for_another_label(small):
    z = latents(1).repeat(3, 0)
    images = small.generate(latents=z, labels=[0, 1, 1])
    assert np.allclose(images[1], images[2]) and not np.allclose(images[0], images[1])


def test_generate_repeats_with_its_seed_and_differs_with_another(small):
    first, second, third = (small.generate(4, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, second) and not np.allclose(first, third)


def test_many_images_keep_their_labels_and_latents(small):
    z, labels = latents(300), np.arange(300) % 3
    images = small.generate(labels=labels, latents=z)
    tail = small.generate(labels=labels[260:], latents=z[260:])
    np.testing.assert_allclose(tail, images[260:], atol=1e-5)


def test_weights_of_the_classes_mix_their_embeddings(small):
    z, ends = latents(2), np.eye(3)[[0, 2]]
    np.testing.assert_allclose(
        small.generate(labels=ends, latents=z), small.generate(labels=[0, 2], latents=z)
    )
    # Half of each is what a class would draw whose embedding lies half-way.
    half = small.generate(labels=np.tile(ends.mean(0), (2, 1)), latents=z)
    embedding = small.average.get_layer("embedding")
    table = embedding.get_weights()[0]
    table[1] = (table[0] + table[2]) / 2
    embedding.set_weights([table])
    np.testing.assert_allclose(small.generate(labels=1, n=2, latents=z), half, atol=1e-6)
    assert not np.allclose(half, small.generate(labels=0, n=2, latents=z))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"n": 2, "labels": [0, 3]}, "0 to 3.*knows 0 to 2"),
        ({"n": 2, "labels": -1}, "-1 to -1"),
        ({"n": 2, "labels": [0.0, 1.0]}, "float64 of shape"),
        ({"n": 2, "labels": True}, "bool"),
        ({"n": 2, "labels": "3"}, "<U1"),
        ({"n": 2, "labels": [0, 1, 2]}, "2 of them.*\\(3,\\)"),
        ({"n": 2, "labels": np.full((3, 3), 1 / 3)}, "\\(3, 3\\); 2 images.*\\(2, 3\\)"),
        ({"n": 2, "labels": np.full((2, 2), 1 / 2)}, "need \\(2, 3\\)"),
        ({"n": 2, "labels": np.ones((2, 3))}, "from 3 to 3"),
        ({"n": 1, "labels": np.array([[1.5, -0.5, 0]])}, "-0.5 at least"),
        ({"n": 1, "labels": np.array([[np.nan, 0.5, 0.5]])}, "sum to 1"),
        ({"n": 0}, "n=0"),
        ({"n": 2.5}, "n=2.5"),
        ({"labels": 1}, "n=None"),
        ({"labels": []}, "n=0"),
        ({"latents": np.zeros((2, 7))}, "\\(2, 7\\).*\\(2, 8\\)"),
        ({"n": 3, "latents": np.zeros((2, 8))}, "3 samples.*\\(3, 8\\)"),
        ({"labels": [0], "latents": np.zeros((2, 8))}, "2 of them"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(small, arguments, words):
    with pytest.raises(UserError, match=words) as caught:
        small.generate(**arguments)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


# The model as a whole


@pytest.mark.once
def test_generate_uses_the_averaged_weights_and_a_step_moves_them(small, batch):
    before = small.generate(4)
    small.generator.set_weights([0 * w for w in small.generator.get_weights()])
    assert np.array_equal(small.generate(4), before)
    small.compile(optimizer=gan.PlayerAdam())
    small.train_on_batch(*batch)
    assert not np.allclose(small.generate(4), before)


@pytest.mark.once
def test_a_saved_model_draws_the_same_images_and_keeps_its_optimizer(small, batch, tmp_path):
    small.compile(optimizer=gan.PlayerAdam(generator_ratio=0.5))
    small.train_on_batch(*batch)
    small.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    assert isinstance(loaded, gan.ConditionalGAN) and loaded.num_classes == 3
    assert np.array_equal(loaded.generate(5), small.generate(5))
    ratios = [0.5] * len(small.generator.trainable_variables)
    ratios += [1.0] * len(small.discriminator.trainable_variables)
    assert loaded.optimizer.ratios == small.optimizer.ratios == ratios


def test_a_published_one_loads_with_its_classes(small, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    checkpoints.publish(small, "told", parameters=SIZES)
    assert np.array_equal(gan.load_gan("told").generate(3), small.generate(3))


@pytest.mark.once
@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 12, 3)])
def test_the_networks_fit_the_images(shape):
    model = gan.build_gan(shape, 8, 4, num_classes=5)
    assert model.generator.output_shape == (None, *shape)
    assert model.discriminator.input_shape == [(None, *shape), (None, 5)]
    assert model.discriminator.output_shape == (None, 1)


@pytest.mark.once
def test_without_classes_the_model_is_the_plain_one(digits):
    plain = gan.build_gan(**SIZES | {"num_classes": 0})
    assert type(plain) is gan.GAN and plain.generator.input_shape == (None, 8)
    plain.compile(optimizer=gan.PlayerAdam())
    plain.train_on_batch(data.to_model(digits.images[:16]))  # needs no labels
