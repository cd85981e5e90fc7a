"""Lesson 02 plays several games in one network, knows its slopes, and counts modes by distance."""

import numpy as np
import pytest

from genlib.authoring import definitions
from genlib.training.backend import keras

lesson = definitions.load("02")
GAMES = 3


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    return lesson.dense_networks(GAMES, 2, 1, 16, "d")


def outputs(network, points):
    return keras.ops.convert_to_numpy(network(points))


def test_each_game_has_a_network_of_its_own(network):
    points = np.random.default_rng(0).standard_normal((20, 2 * GAMES)).astype("float32")
    moved = points.copy()
    moved[:, :2] += 1
    before, after = outputs(network, points), outputs(network, moved)
    assert before.shape == (20, GAMES)
    assert (before[:, 1:] == after[:, 1:]).all() and (before[:, 0] != after[:, 0]).any()
    alike = np.tile(points[:, :2], GAMES)  # the same points, other weights
    assert np.abs(np.diff(outputs(network, alike), axis=1)).max() > 0.01


def test_their_first_weights_are_spread_as_those_of_a_dense_layer():
    wide = lesson.dense_networks(50, 40, 8, 60, "g").trainable_variables[0]
    assert np.std(np.asarray(wide)) == pytest.approx(np.sqrt(2 / (40 + 60)), rel=0.02)


def test_the_slopes_are_those_of_the_logits(network):
    points = np.random.default_rng(0).standard_normal((200, 2 * GAMES)).astype("float32")
    weights = [variable.value for variable in network.trainable_variables]
    found = keras.ops.convert_to_numpy(lesson.slopes(weights, points))
    assert found.shape == (200, GAMES, 2)
    for i in range(2):
        step = np.zeros(2 * GAMES, "float32")
        step[i::2] = 0.005
        expected = (outputs(network, points + step) - outputs(network, points - step)) / 0.01
        # A step may cross one of the network's kinks.
        assert np.mean(np.abs(found[..., i] - expected) < 1e-3) > 0.9


def losses(points, **options):
    keras.utils.set_random_seed(0)
    players = (lesson.dense_networks(GAMES, 2, k, 16, name) for k, name in ((2, "g"), (1, "d")))
    battle = lesson.Penalised(*players, **options)
    return [float(part) for part in (*map(keras.ops.mean, battle(points)),)], battle


def test_penalties_have_their_formulas():
    points = np.random.default_rng(0).standard_normal((50, 2 * GAMES)).astype("float32")
    (*_, none), battle = losses(points)
    (*_, of_r1), _ = losses(points, weight=4.0)
    weights = [variable.value for variable in battle.discriminator.trainable_variables]
    squares = (keras.ops.convert_to_numpy(lesson.slopes(weights, points)) ** 2).sum(-1)
    assert none == 0 and of_r1 == pytest.approx(4 / 2 * squares.mean(), rel=1e-4)
    (real, fake, judged, penalty), battle = losses(points, weight=1.0, wasserstein=True)
    assert 0 < penalty < 1 and fake == pytest.approx(judged)  # the slopes are between 0 and 1
    logits = [np.full((50, GAMES), value, "float32") for value in (real, fake, judged)]
    total = battle.compute_loss(y_pred=(*logits, penalty))
    assert float(total) == pytest.approx(fake - real - judged + penalty, abs=1e-5)


def test_modes_are_counted_and_the_share_on_them_tells_an_octagon_from_them():
    rng = np.random.default_rng(0)
    which = rng.integers(0, 8, 5000)
    modes, share, spread = lesson.on_modes(
        lesson.CENTRES[which] + 0.05 * rng.standard_normal((5000, 2))
    )
    assert modes == 8 and share == pytest.approx(1 - np.exp(-4.5), abs=0.01)
    assert spread == pytest.approx(2, abs=0.05)
    edge = rng.random((5000, 1))
    octagon = edge * lesson.CENTRES[which] + (1 - edge) * lesson.CENTRES[(which + 1) % 8]
    assert lesson.on_modes(octagon)[0] == 8 and lesson.on_modes(octagon)[1] < 0.25
    assert lesson.on_modes(np.tile(lesson.CENTRES[:1], (100, 1))) == (1, 1.0, 0.0)
    assert lesson.on_modes(np.zeros((100, 2))) == (0, 0.0, 0.0)


def test_clouds_are_drawn_with_alternative_text():
    moments = [np.random.default_rng(i).standard_normal((600, GAMES, 2)) for i in range(4)]
    picture = lesson.clouds({"one": moments, "two": moments}, 1, alt="what it shows")
    assert picture.format == "png" and picture.alt == "what it shows"
