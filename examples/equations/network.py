"""A tanh network that carries derivatives by its inputs forward through the layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from equations import jets

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

    def field(self, points: Any, first: Sequence[int] = (), second: Sequence[int] = ()) -> jets.Jet:
        """Returns values and derivatives: see `jets.Field`."""
        along = sorted({*first, *second})
        bent = [along.index(i) for i in second]
        value = points
        slopes = [ops.zeros_like(points) + _unit(i, points.shape[1], points.dtype) for i in along]
        bends = [ops.zeros_like(points) for _ in second]
        for layer in self._dense[:-1]:
            value, slopes, bends = _affine(layer, value, slopes, bends)
            value, slopes, bends = _tanh(value, slopes, bends, bent)
        value, slopes, bends = _affine(self._dense[-1], value, slopes, bends)
        return jets.Jet(
            value, dict(zip(along, slopes, strict=True)), dict(zip(second, bends, strict=True))
        )


def _affine(layer: Any, value: Any, slopes: list[Any], bends: list[Any]) -> Any:
    # One product for all parts; the bias has no derivatives.
    parts = [value, *slopes, *bends]
    inputs, units = layer.kernel.shape
    product = ops.matmul(ops.reshape(ops.stack(parts), (-1, inputs)), layer.kernel)
    value, *rest = ops.unstack(ops.reshape(product, (len(parts), -1, units)), len(parts))
    return value + layer.bias, rest[: len(slopes)], rest[len(slopes) :]


def _tanh(value: Any, slopes: list[Any], bends: list[Any], bent: Sequence[int]) -> Any:
    tanh = ops.tanh(value)
    if not slopes:
        return tanh, [], []
    first = 1 - tanh * tanh
    second = -2 * tanh * first
    return (
        tanh,
        [first * slope for slope in slopes],
        [
            first * bend + second * slopes[i] * slopes[i]
            for i, bend in zip(bent, bends, strict=True)
        ],
    )


def _unit(index: int, size: int, dtype: Any) -> Any:
    return ops.one_hot(index, size, dtype=dtype)


def _initializers(name: str, fan_in: int, draws: keras.random.SeedGenerator) -> tuple[Any, Any]:
    if name == "pytorch":
        limit = 1 / math.sqrt(fan_in)
        return tuple(keras.initializers.RandomUniform(-limit, limit, seed=draws) for _ in range(2))
    return keras.initializers.GlorotNormal(seed=draws), "zeros"
