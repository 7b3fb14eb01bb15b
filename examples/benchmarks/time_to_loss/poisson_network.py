"""A physics-informed network for Poisson's equation on the unit square.

    Laplacian(u) = f,   u = 0 on the edge,   f such that u* = sin(pi x) sin(4 pi y) solves it

The network's output N is made to vanish on the edge: u = B N with B = x (1 - x) y (1 - y). Value,
both first derivatives and the Laplacian of N go through the layers together, forward, so that no
tape stands between the residual and the parameters: an optimizer's own derivatives are the only
ones taken, and the whole is matrix products that compile fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

# What one point carries through the layers: value, d/dx, d/dy and Laplacian.
_PARTS = 4


class PoissonNetwork(keras.Model):
    """2 -> hidden -> 1 tanh units; maps points to the residual Laplacian(u) - f.

    Train it with the mean squared error against zeros.

    Args:
        hidden: Widths of the tanh layers.
    """

    def __init__(self, hidden: Sequence[int] = (32, 32, 32)) -> None:
        super().__init__(name="poisson_network")
        self._dense = [keras.layers.Dense(units) for units in (*hidden, 1)]
        for layer, width in zip(self._dense, (2, *hidden), strict=True):
            layer.build((None, width))
        self.built = True

    def call(self, points: Any) -> Any:
        """Returns the residuals, shape (rows, 1), at points of shape (rows, 2)."""
        return residuals(points, self._pairs())

    def solution(self, points: Any) -> Any:
        """Returns u, shape (rows, 1), at points of shape (rows, 2)."""
        return _solution(points, self._pairs())[0]

    def laplacian(self, points: Any) -> Any:
        """Returns the Laplacian of u, shape (rows, 1), at points of shape (rows, 2)."""
        return _solution(points, self._pairs())[1]

    def _pairs(self) -> list[tuple[Any, Any]]:
        return [(layer.kernel, layer.bias) for layer in self._dense]


def residuals(points: Any, pairs: Sequence[tuple[Any, Any]]) -> Any:
    """Returns Laplacian(u) - f, shape (rows, 1), of the network with these weights.

    Args:
        points: Shape (rows, 2).
        pairs: Kernel and bias of each layer.
    """
    return _solution(points, pairs)[1] - _laplacian_of_exact(points)


def _solution(points: Any, pairs: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Returns u and its Laplacian, each of shape (rows, 1)."""
    value, by_x, by_y, laplacian = _network(points, pairs)
    x, y = points[:, :1], points[:, 1:]
    in_x, in_y = x * (1 - x), y * (1 - y)
    # The product rule for B N, with B = in_x in_y.
    of_product = (
        in_x * in_y * laplacian
        + 2 * ((1 - 2 * x) * in_y * by_x + in_x * (1 - 2 * y) * by_y)
        - 2 * (in_x + in_y) * value
    )
    return in_x * in_y * value, of_product


def _network(points: Any, pairs: Sequence[tuple[Any, Any]]) -> Any:
    """Returns N, dN/dx, dN/dy and Laplacian(N), each of shape (rows, 1)."""
    zeros, ones = ops.zeros_like(points[:, :1]), ops.ones_like(points[:, :1])
    carried = ops.stack(
        [
            points,
            ops.concatenate([ones, zeros], axis=1),
            ops.concatenate([zeros, ones], axis=1),
            ops.zeros_like(points),
        ]
    )
    for kernel, bias in pairs[:-1]:
        carried = _tanh(_affine(carried, kernel, bias))
    return ops.unstack(_affine(carried, *pairs[-1]), _PARTS)


def _affine(carried: Any, kernel: Any, bias: Any) -> Any:
    inputs, units = kernel.shape
    # One product for all four; the bias has no derivatives.
    product = ops.matmul(ops.reshape(carried, (-1, inputs)), kernel)
    value, *derivatives = ops.unstack(ops.reshape(product, (_PARTS, -1, units)), _PARTS)
    return ops.stack([value + bias, *derivatives])


def _tanh(carried: Any) -> Any:
    value, by_x, by_y, laplacian = ops.unstack(carried, _PARTS)
    tanh = ops.tanh(value)
    first = 1 - tanh * tanh
    second = -2 * tanh * first
    squares = by_x * by_x + by_y * by_y
    return ops.stack([tanh, first * by_x, first * by_y, first * laplacian + second * squares])


def exact_solution(points: Any) -> Any:
    """Returns u*, shape (rows, 1), at points of shape (rows, 2)."""
    return ops.sin(math.pi * points[:, :1]) * ops.sin(4 * math.pi * points[:, 1:])


def _laplacian_of_exact(points: Any) -> Any:
    return -17 * math.pi**2 * exact_solution(points)


def interior_points(rows: int, seed: int) -> np.ndarray:
    """Returns uniform random points of the open unit square, shape (rows, 2), float64."""
    return np.random.default_rng(seed).uniform(size=(rows, 2))


def relative_error(network: PoissonNetwork, side: int = 101) -> float:
    """Returns |u - u*| / |u*| in the L2 norm over a square grid of `side` points an edge."""
    axis = np.linspace(0, 1, side)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    exact = ops.convert_to_numpy(exact_solution(ops.convert_to_tensor(grid, "float64")))
    found = ops.convert_to_numpy(network.solution(ops.convert_to_tensor(grid, network.dtype)))
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
