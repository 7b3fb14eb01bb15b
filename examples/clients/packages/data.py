"""Small data and networks that the programs share."""

from __future__ import annotations

import keras
import numpy as np
import sklearn.datasets


def digits(rows: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels in 0..1, shape (rows, 64), and labels, shape (rows,)."""
    data = sklearn.datasets.load_digits()
    return (data.data[:rows] / 16).astype("float32"), data.target[:rows].astype("int32")


def classifier(
    optimizer: str, width: int = 24, loss: str = "sparse_categorical_crossentropy"
) -> keras.Model:
    """Returns a network for `digits`, compiled.

    Args:
        optimizer: By name.
        width: Of the hidden layer.
        loss: By name.
    """
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(width, activation="tanh"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer, loss=loss, metrics=["accuracy"])
    return model


def ends(history: keras.callbacks.History, name: str = "loss") -> tuple[float, float]:
    """Returns the first and the last loss of a training.

    Args:
        history: What `fit` has returned.
        name: Of the loss.
    """
    found = history.history[name]
    return float(found[0]), float(found[-1])
