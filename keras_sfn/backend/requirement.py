"""The check that Keras runs on TensorFlow."""

from __future__ import annotations

import os
import sys


def require_tensorflow() -> None:
    """Raises unless Keras's backend is TensorFlow.

    Raises:
        ImportError: It is another, or the environment asks for another.
    """
    # Looked up first: importing Keras on a backend whose package is missing fails with an error
    # that speaks of that package alone.
    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if "keras" in sys.modules or name == "tensorflow":
        import keras

        name = keras.config.backend()
    if name != "tensorflow":
        raise ImportError(
            "`keras_sfn` needs Keras on the TensorFlow backend. Received: backend "
            f"{name!r}. Set the environment variable KERAS_BACKEND=tensorflow (or "
            '"backend": "tensorflow" in ~/.keras/keras.json) before Keras is imported.'
        )
