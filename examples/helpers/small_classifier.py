"""The paper's small networks: one hidden layer on small grey images."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


def small_images(images: np.ndarray, side: int) -> np.ndarray:
    """Returns images of shape (rows, height, width, channels) as grey rows of side x side."""
    grey = tf.image.rgb_to_grayscale(images) if images.shape[3] == 3 else images
    return tf.image.resize(grey, (side, side), method="area").numpy().reshape(len(images), -1)


def build_classifier(
    pixels: int, units: int, classes: int, activation: str, dtype: str = "float32"
) -> keras.Model:
    """Returns pixels -> units -> classes (logits), compiled with the cross-entropy.

    Args:
        pixels: Of an image.
        units: Of the hidden layer.
        classes: Number of classes.
        activation: Of the hidden layer.
        dtype: Of weights and layers; the loss of `compile` is computed in Keras's default.
    """
    model = keras.Sequential(
        [
            keras.Input((pixels,), dtype=dtype),
            keras.layers.Dense(units, activation=activation, dtype=dtype),
            keras.layers.Dense(classes, dtype=dtype),
        ]
    )
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model
