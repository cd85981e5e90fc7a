"""What the tests of several families compute, on either backend."""

import numpy as np

from genlib import runs
from genlib.training import recorder
from genlib.training.backend import keras

ON_CPU = runs.environment()["device"].startswith("CPU")


def gradients(loss, variables):
    """The gradients of ``loss()`` with respect to Keras variables, on either backend."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss()
        found = tape.gradient(value, [v.value for v in variables], unconnected_gradients="zero")
    else:
        import jax

        def at(values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return loss()

        found = jax.jit(jax.grad(at))([v.value for v in variables])
    return [np.asarray(gradient) for gradient in found]


def assert_same(model, other, histories=(), names=("loss",)):
    """Two models with the same state, optimizer included, and histories that agree in ``names``:
    to the bit on a CPU."""
    tolerance = 0 if ON_CPU else 0.02  # a GPU adds in no fixed order
    for pair in zip(recorder._state(model), recorder._state(other), strict=True):
        np.testing.assert_allclose(*(np.asarray(v.value) for v in pair), rtol=0, atol=tolerance)
    for name in names if histories else ():
        rows = [[row[name] for row in history] for history in histories]
        np.testing.assert_allclose(*rows, rtol=tolerance, atol=tolerance)
