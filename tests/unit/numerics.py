"""What the tests of several families compute, on either backend."""

import numpy as np

from genlib import runs
from genlib._backend import keras

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


def fit(model, run, batches, epochs):
    """Train up to ``epochs``, from where the run's folder says. Returns the run's recorder."""
    recorder = runs.Recorder(run, model, batches)
    start = recorder.initial_epoch
    options = {"shuffle": False, "callbacks": [recorder], "verbose": 0}
    model.fit(batches.stream(), epochs=epochs, initial_epoch=start, **options)
    return recorder
