"""Import Keras once, quietly, on the chosen backend. Modules take ``keras`` from here.

The backend is TensorFlow unless ``KERAS_BACKEND`` says otherwise. The C++ start-up messages stay
off the learner's screen, and GPU memory grows on demand instead of being reserved whole.
"""

import contextlib
import os

from genlib import UserError, quiet_stderr


def _start_backend():
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend not in ("tensorflow", "jax"):
        raise UserError(
            f"KERAS_BACKEND={backend!r} cannot run the course; set it to tensorflow or jax."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        with quiet_stderr():
            if backend == "jax":
                # Keras imports it in passing where it is installed; here it is quiet.
                with contextlib.suppress(ImportError):
                    import tensorflow  # noqa: F401
            else:
                import tensorflow as tf

                tf.get_logger().setLevel("ERROR")  # a lesson that builds ten models is told off
                for gpu in tf.config.list_physical_devices("GPU"):
                    tf.config.experimental.set_memory_growth(gpu, True)
            import keras  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f"the backend {backend!r} needs the package {error.name!r}, which is not installed; "
            f"install it (pip install {error.name}) or choose another by KERAS_BACKEND."
        ) from None


_start_backend()

import keras  # noqa: E402

__all__ = ["compiled", "keras"]


def compiled(function, variables, signature, xla=False):
    """Compile a function of tensors for use outside ``fit``, where Keras does it.

    variables: the Keras variables that ``function`` reads; their values may change between calls.
    signature: (shape, dtype) of each argument, None for a size that varies. xla: on TensorFlow too,
    compile by XLA, which takes seconds and pays where a graph has many small operations.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        specs = [tf.TensorSpec(shape, dtype) for shape, dtype in signature]
        return tf.function(function, input_signature=specs, jit_compile=xla or None)
    import jax

    @jax.jit
    def pure(values, *arguments):
        state = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=state):
            return function(*arguments)

    return lambda *arguments: pure([v.value for v in variables], *arguments)
