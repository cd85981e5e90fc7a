"""Import Keras once, quietly, on the chosen backend. Modules take ``keras`` from here.

The backend is TensorFlow unless ``KERAS_BACKEND`` says otherwise. The C++ start-up messages stay
off the learner's screen, and GPU memory grows on demand instead of being reserved whole.
"""

import contextlib
import os

from genlib import UserError, quiet_stderr


def _start_backend():
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend not in ("tensorflow", "jax", "torch"):
        raise UserError(
            f"KERAS_BACKEND={backend!r} is not a backend of Keras; set it to tensorflow or jax."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        with quiet_stderr():
            if backend != "tensorflow":
                # Keras imports it in passing where it is installed; here it is quiet.
                with contextlib.suppress(ImportError):
                    import tensorflow  # noqa: F401
            else:
                import tensorflow as tf

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

__all__ = ["keras"]
