"""Lesson 05 learns from few labels, with a generative model whose label is a latent."""

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp
from scipy.stats import multivariate_normal

from genlib import UserError, data
from genlib.authoring import definitions
from genlib.models import vq
from genlib.training import keras

ops = keras.ops
CLASSES, SIZE = 3, 4
GIVEN = {"layers": keras.layers, "ops": ops, "stride": 4, "VectorQuantizer": vq.VectorQuantizer}
lesson = definitions.load("05", **GIVEN)


@pytest.fixture(scope="module")
def toy():
    """Three classes on a line each, p(x|y, z) = N(w z + b_y, 0.25 I), with q(z|x, y) exact."""
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=SIZE), rng.normal(size=(CLASSES, SIZE))
    x = rng.normal(size=(7, SIZE))
    variance = 1 / (1 + w @ w / 0.25)  # of the posterior of z

    def encoder(xy):
        xy = np.asarray(xy)
        mean = variance / 0.25 * (xy[..., :SIZE] - xy[..., SIZE:] @ b) @ w
        return np.stack([mean, np.full(mean.shape, np.log(variance))], -1).astype("float32")

    def decoder(yz):
        yz = np.asarray(yz)
        mean = yz[..., CLASSES:] * w + yz[..., :CLASSES] @ b
        return np.concatenate([mean, np.full(mean.shape, np.log(0.25))], -1).astype("float32")

    whole = np.outer(w, w) + 0.25 * np.eye(SIZE)  # the covariance of p(x|y)
    joint = [multivariate_normal(mean, whole).logpdf(x) - np.log(CLASSES) for mean in b]
    return x.astype("float32"), encoder, decoder, np.transpose(joint)  # log p(x, y): (7, CLASSES)


@pytest.fixture
def bounds(toy):
    x, encoder, decoder, _ = toy
    y = np.broadcast_to(np.eye(CLASSES, dtype="float32"), (len(x), CLASSES, CLASSES))
    every = np.repeat(x[:, None], CLASSES, axis=1)
    epsilon = np.random.default_rng(1).normal(size=(len(x), CLASSES, 1)).astype("float32")
    return ops.convert_to_numpy(lesson.given_label(every, y, encoder, decoder, epsilon))


def test_the_bound_with_the_exact_posterior_is_the_joint_probability(toy, bounds):
    np.testing.assert_allclose(bounds, toy[-1], rtol=1e-4, atol=1e-4)  # whatever z was drawn


def test_a_wrong_posterior_loses_on_average(toy):
    x, encoder, decoder, joint = toy
    y = np.broadcast_to(np.eye(CLASSES, dtype="float32")[0], (2000, len(x), CLASSES))
    epsilon = np.random.default_rng(2).normal(size=(2000, len(x), 1)).astype("float32")
    shifted = np.array([1.0, 0.0], "float32")
    many = np.broadcast_to(x, (2000, *x.shape))
    found = lesson.given_label(many, y, lambda xy: encoder(xy) + shifted, decoder, epsilon)
    found = ops.convert_to_numpy(found).mean(0)
    assert np.all(found < joint[:, 0])  # by KL(q ‖ p(z|x, y)) = 1 / (2 · variance)


def test_u_with_the_exact_posteriors_is_the_enumerated_log_likelihood(toy, bounds):
    joint = toy[-1]
    found = lesson.m2_bound(bounds, bounds)  # p(y|x) ∝ p(x, y)
    np.testing.assert_allclose(found, logsumexp(joint, axis=1), rtol=1e-4, atol=1e-4)


def test_u_is_lower_by_the_divergence_of_the_labels(toy):
    joint = toy[-1].astype("float32")
    log_q = log_softmax(np.random.default_rng(3).normal(size=joint.shape), axis=1)
    lost = np.sum(np.exp(log_q) * (log_q - log_softmax(joint, axis=1)), axis=1)
    expected = logsumexp(joint, axis=1) - lost
    found = ops.convert_to_numpy(lesson.m2_bound(joint, log_q.astype("float32")))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def codes_of(draws=2, each=6, n=9, size=SIZE, seed=4):
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(draws, each, 2 * size)).astype("float32")
    labels = rng.permuted(np.tile(np.arange(CLASSES), (draws, each // CLASSES)), axis=1)
    return codes, labels, rng.normal(size=(n, 2 * size)).astype("float32")


MAKERS = {
    "labels": lambda given: lesson.FewLabels(given, units=8),
    "pseudo": lambda given: lesson.PseudoLabels(given, 300),
    "M2": lambda given: lesson.M2(given, [0.1] * given.draws, alpha=1.0, latent_dim=1),
}


def test_the_model_sums_over_labels_as_a_loop_does(monkeypatch):
    codes, labels, others = codes_of()
    model = lesson.M2(lesson.Labelled(codes, labels), [0.1, 0.1], latent_dim=2)
    normal = keras.random.normal  # x and z at their means instead of drawn
    monkeypatch.setattr(keras.random, "normal", lambda shape, **_: 0.0 * normal(shape, seed=0))
    _, _, unknown = model.call(others)
    x = np.broadcast_to(others[:, :SIZE], (2, 9, SIZE))
    log_q = log_softmax(ops.convert_to_numpy(model.classifier(x)), axis=-1)
    expected = np.zeros((2, 9))
    for label in range(CLASSES):
        y = np.broadcast_to(np.eye(CLASSES, dtype="float32")[label], (2, 9, CLASSES))
        epsilon = np.zeros((2, 9, 2), "float32")
        of_label = lesson.given_label(x, y, model.encoder, model.decoder, epsilon)
        log_joint = ops.convert_to_numpy(of_label)
        expected += np.exp(log_q[..., label]) * (log_joint - log_q[..., label])
    np.testing.assert_allclose(unknown, -expected, rtol=1e-4, atol=1e-4)


def test_the_loss_weighs_three_terms_for_each_draw():
    codes, labels, _ = codes_of()
    model = lesson.M2(lesson.Labelled(codes, labels), [0.1, 0.2], alpha=3.0)
    terms = [np.array([[1.0, 3.0], [2.0, 4.0]], "float32") * i for i in (1, 10, 100)]
    loss = float(model.compute_loss(y_pred=terms))
    assert loss == pytest.approx(3 * (2 + 3) + 0.1 * 20 + 0.2 * 30 + 200 + 300)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_draws_do_not_touch_each_other(kind):
    codes, labels, others = codes_of()
    start, states = None, []
    for told in (labels, np.stack([labels[0], (labels[1] + 1) % CLASSES])):
        model = MAKERS[kind](lesson.Labelled(codes, told, seed=6))
        start = start or model.get_weights()
        model.set_weights(start)
        lesson.train(model, others, 3, batch_size=3)
        states.append([ops.convert_to_numpy(w) for w in model.trainable_variables])
    pairs = list(zip(*states, strict=True))
    for one, another in pairs:
        np.testing.assert_allclose(one[0], another[0], atol=1e-5)
    assert any(np.abs(one[1] - another[1]).max() > 1e-3 for one, another in pairs)


def clusters(rng, n):
    """Codes of ``CLASSES`` clusters that lie well apart, and their labels."""
    labels = np.arange(n) % CLASSES
    centres = 4 * np.eye(CLASSES, SIZE)
    means = centres[labels] + 0.5 * rng.normal(size=(n, SIZE))
    return np.concatenate([means, np.full((n, SIZE), -4.0)], 1).astype("float32"), labels


@pytest.mark.parametrize("kind", MAKERS)
def test_clusters_are_learned_from_a_label_each(kind):
    keras.utils.set_random_seed(0)
    codes, labels = clusters(np.random.default_rng(7), 300)
    rows = np.stack([np.arange(3), np.arange(3, 6)])
    model = MAKERS[kind](lesson.Labelled(codes[rows], labels[rows]))
    lesson.train(model, codes, 300, batch_size=50)
    found = lesson.errors_of(model, codes, labels)
    assert found.shape == (2,) and found.max() < 0.05


def test_draws_of_labels_are_balanced_different_and_of_the_training_part():
    images = data.load_images("digits")
    rows = np.array([lesson.labelled(images.labels, 50, seed) for seed in range(5)])
    for chosen in rows:
        assert len(set(chosen)) == 50
        assert np.all(np.bincount(images.labels[chosen]) == 5)
    assert len({tuple(chosen) for chosen in rows}) == 5
    np.testing.assert_array_equal(rows[0], lesson.labelled(images.labels, 50, 0))
    test = {picture.tobytes() for picture in images.test_images}
    assert not test & {picture.tobytes() for picture in images.images[rows.ravel()]}


@pytest.mark.parametrize("count", [0, 7, 10_000, -10])
def test_what_cannot_be_drawn_evenly_is_one_sentence(count):
    with pytest.raises(UserError, match="cannot be drawn evenly from 10 classes"):
        lesson.labelled(np.arange(1000) % 10, count)


def test_a_classifier_on_shuffled_labels_is_at_chance():
    images = data.load_images("digits")
    rows = lesson.labelled(images.labels, 200)
    x = data.to_unit(images.images[rows]).reshape(200, -1)
    held = data.to_unit(images.test_images).reshape(len(images.test_images), -1)
    right, chance = images.labels[rows], []
    assert np.mean(lesson.learn(x, right).predict(held) != images.test_labels) < 0.1
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(right)
        chance.append(np.mean(lesson.learn(x, shuffled).predict(held) != images.test_labels))
    assert 0.8 < np.mean(chance) < 1.0


def test_labels_spread_along_clusters():
    codes, labels = clusters(np.random.default_rng(8), 300)
    found = lesson.spread(lesson.graph(codes[:, :SIZE], 8), np.arange(3), labels[:3])
    np.testing.assert_array_equal(found, labels)


def test_the_interval_is_student_s():
    mean, half = lesson.mean_interval(np.array([2.0, 1.0, 3.0, 2.0, 2.0]))
    assert mean == 2.0 and half == pytest.approx(0.88, abs=0.005)
