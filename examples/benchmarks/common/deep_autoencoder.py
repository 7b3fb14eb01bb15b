"""The deep autoencoder whose steps the benchmarks time: tanh layers, a linear code."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import keras
import tensorflow as tf

# Pixels, then down to the code: 2.84 million parameters.
WIDTHS = (784, 1000, 500, 250, 30)


def build(widths: Sequence[int]) -> keras.Model:
    """Returns widths[0] -> widths[1] -> ... -> widths[-1] -> ... -> widths[0], outputs in 0..1."""
    keras.utils.set_random_seed(0)
    pixels, *hidden, code = widths
    layers = [keras.layers.Dense(width, activation="tanh") for width in hidden]
    layers.append(keras.layers.Dense(code))
    layers += [keras.layers.Dense(width, activation="tanh") for width in reversed(hidden)]
    layers.append(keras.layers.Dense(pixels, activation="sigmoid"))
    return keras.Sequential([keras.Input((pixels,)), *layers])


def batch(widths: Sequence[int], rows: int) -> tf.Tensor:
    """Returns seeded images in 0..1, shape (rows, widths[0])."""
    return tf.random.stateless_uniform((rows, widths[0]), (0, 0))


def layer_shapes(widths: Sequence[int]) -> list[tuple[int, int]]:
    """Returns (inputs, units) of each layer in turn."""
    path = [*widths, *reversed(widths[:-1])]
    return list(itertools.pairwise(path))


def parameters(widths: Sequence[int]) -> int:
    """Returns the number n of weights and biases."""
    return sum(inputs * units + units for inputs, units in layer_shapes(widths))


def scaled(widths: Sequence[int], size: int) -> tuple[int, ...]:
    """Returns widths in the same proportions that make about `size` parameters.

    All of them, pixels too, so that the arithmetic a parameter stays the same.
    """
    factor = (size / parameters(widths)) ** 0.5
    return tuple(max(1, round(width * factor)) for width in widths)
