"""Lesson 09 asks derivatives which token depends on which."""

import numpy as np
import pytest

from genlib.authoring import definitions
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
