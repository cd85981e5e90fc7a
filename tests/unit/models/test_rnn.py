"""An LSTM reads token by token what it reads at once, and learns what its state can hold."""

import numpy as np
import pytest
from scipy.special import expit

from genlib import UserError, training
from genlib.models import rnn, tokenizers
from genlib.training.backend import keras

LETTERS = tokenizers.CharTokenizer("abc\n")
CONTEXT = 8


def build(units=8, seed=0, **options):
    return rnn.LSTMModel(LETTERS, units, 4, context_length=CONTEXT, seed=seed, **options)


@pytest.fixture(scope="module")
def model():
    """Random weights, large enough that what was read long ago still counts."""
    model, rng = build(), np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.7, w.shape) for w in model.get_weights()])
    return model


def step(weights, x, h, c):
    """One step of an LSTM as Hochreiter & Schmidhuber's with a forget gate, in NumPy."""
    kernel, recurrent, bias = weights
    i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=-1)
    c = expit(f) * c + expit(i) * np.tanh(g)
    return expit(o) * np.tanh(c), c


@pytest.mark.backend
def test_it_computes_embedding_lstm_and_logits_as_numpy_does(model):
    embedding, *cell, kernel, bias = (np.asarray(w, "float64") for w in model.get_weights())
    tokens = np.random.default_rng(1).integers(0, 4, (3, CONTEXT))
    h = c = np.zeros((3, 8))
    found = np.asarray(model(tokens))
    for time in range(CONTEXT):
        h, c = step(cell, embedding[tokens[:, time]], h, c)
        np.testing.assert_allclose(found[:, time], h @ kernel + bias, atol=1e-4)


@pytest.mark.backend
def test_with_its_states_it_says_what_it_says_without(model):
    tokens = np.random.default_rng(2).integers(0, 4, (3, CONTEXT)).astype("int32")
    expected, cache = np.asarray(model(tokens)), model.empty_cache(3)
    for time in range(CONTEXT):
        logits, cache = model.next_logits(tokens[:, time], time, list(cache))
        np.testing.assert_allclose(np.asarray(logits), expected[:, time], atol=1e-5)
    assert len(cache) == len(model.empty_cache(3))
    assert all(np.shape(state) == model.empty_cache(3).shape[1:] for state in cache)


@pytest.mark.backend
def test_greedy_texts_follow_the_likeliest_tokens_and_past_the_window_its_later_half(model):
    written = model.generate("ab", 3 * CONTEXT, top_k=1)
    tokens = LETTERS.encode(written).tolist()
    assert written.startswith("ab") and len(tokens) == 2 + 3 * CONTEXT
    windows = []
    for n in range(2, len(tokens)):
        window = tokens[:n]
        while len(window) > CONTEXT:
            window = window[CONTEXT + 1 - CONTEXT // 2 :]
        windows.append(window)
    padded = np.array([window + [0] * (CONTEXT - len(window)) for window in windows])
    ends = [len(window) - 1 for window in windows]
    logits = np.asarray(model(padded))[range(len(windows)), ends]
    chosen = logits[range(len(windows)), tokens[2:]]
    assert np.all(chosen > logits.max(-1) - 1e-4) and len(set(written)) > 2


def test_dropout_is_for_training_alone():
    model = build(dropout=0.5)
    tokens = np.zeros((1, CONTEXT), "int32")
    still = [np.asarray(model(tokens)) for _ in range(2)]
    assert np.array_equal(*still)
    assert not np.allclose(still[0], np.asarray(model(tokens, training=True)))


@pytest.mark.backend
def test_it_learns_what_only_a_memory_predicts():
    model = build(units=16)
    windows = training.Windows(LETTERS.encode("aabbb" * 200), CONTEXT, 16)
    model.compile(optimizer=keras.optimizers.Adam(0.05))
    losses = model.fit(windows.stream(), epochs=12, shuffle=False, verbose=0).history["loss"]
    # By the last token alone: 0.66 nats. A memory too must guess where in the row a window begins.
    assert losses[0] > 0.66 > 0.25 > losses[-1] > 0.08


def test_a_saved_model_says_the_same_after_loading(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    assert loaded.generate("ab", 20) == model.generate("ab", 20)


def test_its_seed_fixes_the_first_weights():
    one, two, three = (build(seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(map(np.array_equal, one, two)) and not np.array_equal(one[0], three[0])


def test_a_prompt_of_unknown_characters_is_refused(model):
    with pytest.raises(UserError, match="'x' did not occur"):
        model.generate("x", 3)
