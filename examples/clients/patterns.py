"""Ten common patterns of Keras models, small, each with its data: what `compare.py` trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import sklearn.datasets
import tensorflow as tf

from clients import own_steps

layers = keras.layers


class Pattern(NamedTuple):
    """A model and its data.

    Attributes:
        model: Not compiled.
        data: What `fit` gets before its options.
        compile: What `compile` gets beside the optimizer.
        optimizers: How many it takes.
    """

    model: keras.Model
    data: tuple[Any, ...]
    compile: dict[str, Any] = {}  # noqa: RUF012 (of a named tuple, never changed)
    optimizers: int = 1


def _digits(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels in 0..1, shape (rows, 64), and labels."""
    data = sklearn.datasets.load_digits()
    return (data.data[:rows] / 16).astype("float32"), data.target[:rows].astype("int32")


def _images(rows: int) -> np.ndarray:
    return _digits(rows)[0].reshape(-1, 8, 8, 1)


_LABELS = {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}


def variational_autoencoder(rows: int) -> Pattern:
    """Own train step with random numbers."""
    return Pattern(own_steps.VariationalAutoencoder(), (_digits(rows)[0],))


def graph_attention(rows: int) -> Pattern:
    """Own train step; rows meet in the graph."""
    x, y = _digits(rows)
    distances = np.sum((x[:, None] - x[None]) ** 2, axis=-1)
    near = np.argsort(distances, axis=1)[:, :4]
    edges = np.stack([near.ravel(), np.repeat(np.arange(len(x)), 4)], axis=1)
    model = own_steps.GraphAttention(tf.constant(edges, "int32"), tf.constant(x))
    return Pattern(model, (np.arange(len(x), dtype="int32"), y), _LABELS)


def wasserstein_with_penalty(rows: int) -> Pattern:
    """Own train step with two optimizers and an inner tape."""
    dense = layers.Dense
    generator = keras.Sequential([keras.Input((8,)), dense(32, "tanh"), dense(64, "sigmoid")])
    critic = keras.Sequential([keras.Input((64,)), dense(32, "tanh"), dense(1)])
    model = own_steps.WassersteinWithPenalty(generator, critic)
    return Pattern(model, (_digits(rows)[0],), optimizers=2)


def deep_convolutional(rows: int) -> Pattern:
    """Own train step with two optimizers and convolutions."""
    generator = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(64, "tanh"),
            layers.Reshape((4, 4, 4)),
            layers.Conv2DTranspose(8, 3, strides=2, padding="same", activation="tanh"),
            layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ]
    )
    discriminator = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="leaky_relu"),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model = own_steps.DeepConvolutional(generator, discriminator)
    return Pattern(model, (_images(rows),), optimizers=2)


def style_transfer(rows: int) -> Pattern:
    """Own train step whose only weight is an image."""
    images = tf.constant(_images(2))
    model = own_steps.StyleTransfer(images[:1], images[1:])
    return Pattern(model, (np.zeros((1, 1), "float32"),))


def convnet(rows: int) -> Pattern:
    """Convolutions, pooling, dropout."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.2, seed=1),
            layers.Dense(10),
        ]
    )
    return Pattern(model, (_images(rows), _digits(rows)[1]), _LABELS)


def transformer(rows: int) -> Pattern:
    """A block of attention over the rows of an image."""
    inputs = keras.Input((8, 8))
    hidden = layers.Dense(16)(inputs)
    attended = layers.MultiHeadAttention(2, 8)(hidden, hidden)
    hidden = layers.LayerNormalization()(hidden + attended)
    hidden = layers.LayerNormalization()(hidden + layers.Dense(16, "gelu")(hidden))
    outputs = layers.Dense(10)(layers.GlobalAveragePooling1D()(hidden))
    x, y = _digits(rows)
    return Pattern(keras.Model(inputs, outputs), (x.reshape(-1, 8, 8), y), _LABELS)


def preprocessing_inside(rows: int) -> Pattern:
    """Rescaling, random flips and normalisation in the model."""
    x, y = _images(rows), _digits(rows)[1]
    normal = layers.Normalization()
    normal.adapt(x)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            normal,
            layers.RandomFlip(seed=1),
            layers.Flatten(),
            layers.Dense(32, "relu"),
            layers.Dense(10),
        ]
    )
    return Pattern(model, (x, y), _LABELS)


def convolutional_autoencoder(rows: int) -> Pattern:
    """Down by strides and up by transposed convolutions."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="tanh"),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="tanh"),
            layers.Conv2DTranspose(8, 3, strides=2, padding="same", activation="tanh"),
            layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid"),
        ]
    )
    return Pattern(model, (_images(rows), _images(rows)), {"loss": "binary_crossentropy"})


def siamese(rows: int) -> Pattern:
    """One network at two places, and a distance."""
    x, y = _digits(rows)
    other = np.random.default_rng(0).permutation(len(x))
    shared = keras.Sequential([keras.Input((64,)), layers.Dense(24, "tanh"), layers.Dense(8)])
    left, right = keras.Input((64,)), keras.Input((64,))
    distance = layers.Dot(axes=1, normalize=True)([shared(left), shared(right)])
    model = keras.Model([left, right], layers.Dense(1, "sigmoid")(distance))
    same = (y == y[other]).astype("float32")[:, None]
    return Pattern(model, ([x, x[other]], same), {"loss": "binary_crossentropy"})


PATTERNS: dict[str, Callable[[int], Pattern]] = {
    "VAE": variational_autoencoder,
    "graph attention": graph_attention,
    "WGAN-GP": wasserstein_with_penalty,
    "DCGAN": deep_convolutional,
    "style transfer": style_transfer,
    "convnet": convnet,
    "transformer": transformer,
    "preprocessing inside": preprocessing_inside,
    "convolutional autoencoder": convolutional_autoencoder,
    "siamese": siamese,
}
