"""Lesson 09 asks derivatives which token depends on which."""

import numpy as np
import pytest

from genlib.authoring import definitions
from genlib.models import gpt, tokenizers
from genlib.training.backend import keras


@pytest.mark.backend
def test_the_gradient_is_that_of_the_formula():
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    weights = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")

    def function(x):
        return keras.ops.sum(weights * keras.ops.exp(x)) + x[0, 0] ** 2

    expected = weights * np.exp(x)
    expected[0, 0] += 2 * x[0, 0]
    lesson = definitions.load("09")
    found = lesson.gradient(function, keras.ops.convert_to_tensor(x))
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.any(
        lesson.gradient(lambda x: keras.ops.sum(x) * 0, keras.ops.convert_to_tensor(x))
    )


@pytest.mark.backend
def test_the_slopes_see_what_a_mask_lets_through(monkeypatch):
    lesson = definitions.load("09")
    letters = tokenizers.CharTokenizer("abc\n")
    net = gpt.GPT(letters, num_layers=1, num_heads=2, model_dim=8, context_length=8)
    tokens = letters.encode("abca")
    assert np.all(np.triu(lesson.slopes(net, tokens), 1) == 0)
    monkeypatch.setattr(gpt, "causal_mask", lambda time, *_: np.ones((time, time), bool))
    assert np.all(np.triu(lesson.slopes(net, tokens), 1) == 0)  # a fresh block adds nothing
    for kernel in (net.blocks[0].attention.merge.kernel, net.blocks[0].narrow.kernel):
        kernel.assign(np.random.default_rng(0).normal(size=kernel.shape))
    assert lesson.slopes(net, tokens)[0, 1:].min() > 0
    monkeypatch.undo()
    slopes = lesson.slopes(net, tokens)
    assert np.all(np.triu(slopes, 1) == 0) and np.tril(slopes).sum() > 0


def test_small_matrices_are_drawn_with_their_values_and_letters():
    lesson = definitions.load("09")
    drawn = lesson.heat({"a": np.eye(3), "b": np.eye(3)}, ticks="xyz", alt="two diagonals")
    assert drawn.data.startswith(b"\x89PNG") and drawn.alt == "two diagonals"
