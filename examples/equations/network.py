"""A tanh network with the initial weights of the literature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

INITIALIZATIONS = ("pytorch", "xavier")


class Network(keras.Model):
    """d -> hidden -> 1 units with tanh between.

    Args:
        inputs: d, the number of coordinates.
        hidden: Widths of the tanh layers.
        initialization: `"pytorch"`, as its `Linear` draws by default: kernels and biases uniform up
            to 1 / sqrt(fan-in); or `"xavier"`: normal kernels, biases of zero.
        seed: Of the initialisation.
        dtype: Name of the precision of weights and outputs.
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int], initialization: str, seed: int, dtype: str
    ) -> None:
        super().__init__(name="network", dtype=dtype)
        draws = keras.random.SeedGenerator(seed, name="initialization")
        self._dense = []
        for width, units in zip((inputs, *hidden), (*hidden, 1), strict=True):
            kernel, bias = _initializers(initialization, width, draws)
            layer = keras.layers.Dense(
                units, kernel_initializer=kernel, bias_initializer=bias, dtype=dtype
            )
            layer.build((None, width))
            self._dense.append(layer)
        self.built = True

    def call(self, points: Any) -> Any:
        """Returns values, shape (rows, 1), at points of shape (rows, d)."""
        for layer in self._dense[:-1]:
            points = ops.tanh(layer(points))
        return self._dense[-1](points)


def _initializers(name: str, fan_in: int, draws: keras.random.SeedGenerator) -> tuple[Any, Any]:
    if name == "pytorch":
        limit = 1 / math.sqrt(fan_in)
        return tuple(keras.initializers.RandomUniform(-limit, limit, seed=draws) for _ in range(2))
    return keras.initializers.GlorotNormal(seed=draws), "zeros"
