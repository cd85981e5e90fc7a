"""A GPT that writes codes after words; what it shares with pixels is tested there."""

import itertools

import numpy as np
import pytest
from scipy.special import log_softmax

from genlib import UserError, metrics, runs, training
from genlib.models import codes, vq
from genlib.training.backend import keras
from genlib.training.optimizers import text_muon

backend = pytest.mark.backend
SIZES = {"num_layers": 2, "num_heads": 2, "model_dim": 16}


def shaken(*sizes, scale=0.5):
    """A model of random weights: num_codes, length, num_words, prefix."""
    model = codes.CodeGPT(codes.CodeTokens(*sizes), **SIZES)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, scale, w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def toy():
    """Two codes, rows of three, after one of two words."""
    return shaken(2, 3, 2, 1)


ALL = np.array(list(itertools.product([0, 1], repeat=3)))


@backend
def test_the_bits_of_all_rows_are_the_enumerated_ones(toy):
    for word in (0, 1):
        nats = toy.cross_entropy(np.full(8, word), ALL)
        assert nats.shape == (8, 3)
        assert np.exp(-nats.sum(1)).sum() == pytest.approx(1, abs=1e-5)
        rows = toy.tokenizer.rows(np.full(8, word), ALL)
        logits = np.asarray(toy(rows[:, :-1]), "float64")[..., :2]
        expected = -np.take_along_axis(log_softmax(logits, -1), ALL[..., None], -1)[..., 0]
        np.testing.assert_allclose(nats, expected, atol=1e-5)


@backend
def test_rows_are_drawn_as_often_as_their_chances_say_and_depend_on_the_word(toy):
    shares = []
    for word in (0, 1):
        chances = np.exp(-toy.cross_entropy(np.full(8, word), ALL).sum(1))
        drawn = toy.generate(np.full(1280, word), seed=1) @ [4, 2, 1]
        found = np.bincount(drawn, minlength=8) / 1280
        assert np.all(np.abs(found - chances) < 4.5 * np.sqrt(chances / 1280) + 0.002)
        shares.append(chances)
    assert np.abs(shares[0] - shares[1]).max() > 0.05


@backend
def test_several_words_stand_before_and_are_neither_predicted_nor_drawn():
    model = shaken(4, 5, 3, 2)
    words = np.array([[0, 1], [2, 2], [1, 0]])
    drawn = model.generate(words, seed=2)
    assert drawn.shape == (3, 5) and drawn.max() < 4
    assert np.array_equal(model.generate(words, seed=2), drawn)
    assert np.array_equal(model.generate(words[:2], seed=2), drawn[:2])
    assert model.cross_entropy(words, drawn).shape == (3, 5)
    batches = codes.CodeBatches(model.tokenizer, words, drawn, 3)
    inputs, targets = batches[0]
    assert inputs.shape == targets.shape == (3, 6)
    assert np.all(targets[:, 0] == -1) and np.all(targets[:, 1:] >= 0)
    order = [np.flatnonzero((words + 4 == row[:2]).all(1))[0] for row in inputs]
    assert np.array_equal(targets[:, 1:], drawn[order])


@backend
def test_it_learns_which_codes_follow_which_word(tmp_path):
    rng = np.random.default_rng(0)
    words = rng.integers(0, 3, 600)
    rows = (words[:, None] + np.arange(4)) % 5  # the word says all
    model = codes.CodeGPT(codes.CodeTokens(5, 4, 3), **SIZES)
    batches = codes.CodeBatches(model.tokenizer, words, rows, 50)
    model.compile(optimizer=text_muon(0.02, 8 * len(batches)))
    run = runs.Run("05", {"run_dir": str(tmp_path), "resume": False, "epochs": 8})
    training.fit(model, batches, run, 8)
    assert model.cross_entropy(words[:64], rows[:64]).sum(1).mean() < 0.2
    assert np.mean(model.generate([0, 1, 2])[:, 0] == [0, 1, 2]) == 1


@backend
def test_a_saved_model_scores_rows_as_before(toy, tmp_path):
    toy.save(tmp_path / "codes.keras")
    loaded = keras.models.load_model(tmp_path / "codes.keras")
    assert loaded.get_config() == toy.get_config()
    words = np.zeros(8, int)
    assert np.array_equal(loaded.cross_entropy(words, ALL), toy.cross_entropy(words, ALL))


@pytest.mark.parametrize(
    "sizes, words",
    [((0, 3), "num_codes=0"), ((2, 0), "length=0"), ((2, 3, 0), "num_words=0")],
)
def test_sizes_of_nothing_are_refused(sizes, words):
    with pytest.raises(UserError, match=f"{words} is not possible; give a whole number from 1 up"):
        codes.CodeTokens(*sizes)


@pytest.mark.parametrize(
    "words, rows, sentence",
    [
        ([2], [[0, 0, 0]], "a row begins with 1 of them, from 0 to 1"),
        ([-1], [[0, 0, 0]], "a row begins with 1 of them"),
        ([[0, 1]], [[0, 0, 0]], "a row begins with 1 of them"),
        ([0], [[0, 0]], "for 1 rows, 3 each are needed, from 0 to 1"),
        ([0], [[0, 0, 2]], "go from 0 to 2; for 1 rows"),
        ([0], [[0, 0, -1]], "go from -1 to 0; for 1 rows"),
    ],
)
def test_words_and_codes_that_do_not_fit_are_refused(toy, words, rows, sentence):
    with pytest.raises(UserError, match=sentence):
        toy.cross_entropy(words, rows)


def test_the_judge_reads_what_the_shipped_pair_draws_as_it_was_asked():
    asked = np.arange(100) % 10
    drawn = vq.load_vqvae().decode(codes.load_codes().generate(asked, seed=1))
    assert np.mean(metrics.Judge.shipped("mnist")(drawn)[1] == asked) > 0.85
