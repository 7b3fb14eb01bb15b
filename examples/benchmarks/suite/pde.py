"""Differential equations on a rectangle, solved by a network whose residuals are trained to zero.

The network u maps points to values. Equation and conditions are residuals at points of their own,
which a model returns side by side; the loss is their mean square. Derivatives are those of nested
tapes, as users write them.

Reference:
    Raissi, Perdikaris and Karniadakis, Physics-informed neural networks, J. Comput. Phys. 378,
    2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from benchmarks.common import task as task_lib
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import networks

# Maps the network and points, shape (rows, 2), to residuals, shape (rows, 1).
Residual = Callable[[Any, Any], Any]
# Maps points, shape (rows, 2), to values, shape (rows, 1), by functions of `keras.ops`.
Exact = Callable[[Any], Any]


class Box(NamedTuple):
    """A rectangle.

    Attributes:
        lower: Its corner with the least coordinates.
        upper: The opposite one.
    """

    lower: tuple[float, float]
    upper: tuple[float, float]


class Derivatives(NamedTuple):
    """What an equation is made of.

    Attributes:
        value: u, shape (rows, 1).
        first: Along both coordinates, shape (rows, 2).
        second: Unmixed ones along the coordinates that were asked for, shape (rows, axes).
    """

    value: Any
    first: Any
    second: Any


def derivatives(network: Any, points: Any, axes: Sequence[int] = (0, 1)) -> Derivatives:
    """Returns value and derivatives of a network at points of shape (rows, 2)."""
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
        outer.watch(points)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(points)
            value = network(points)
        first = inner.gradient(value, points)
        # Sliced while the tape records.
        slopes = [first[:, axis] for axis in axes]
    second = [
        outer.gradient(slope, points)[:, axis] for slope, axis in zip(slopes, axes, strict=True)
    ]
    return Derivatives(value, first, tf.stack(second, axis=-1))


def equals(function: Exact) -> Residual:
    """Returns the condition that u is a given function."""
    return lambda network, points: network(points) - function(points)


class Collocation(keras.Model):
    """Maps one array of points a residual to all residuals, shape (rows, residuals).

    Args:
        widths: Of the tanh layers of u.
        residuals: Equation and conditions.
    """

    def __init__(self, widths: Sequence[int], residuals: Sequence[Residual]) -> None:
        super().__init__(name="collocation")
        self.network = keras.Sequential(networks.dense(2, widths, 1, "tanh"))
        self._residuals = tuple(residuals)
        self.built = True

    def call(self, points: Sequence[Any]) -> Any:
        """Returns the residuals."""
        found = [
            residual(self.network, at) for residual, at in zip(self._residuals, points, strict=True)
        ]
        return keras.ops.concatenate(found, axis=-1)


class Points:
    """Draws points of a rectangle, from one seed.

    Args:
        box: The rectangle.
        rows: Points of each draw.
    """

    def __init__(self, box: Box, rows: int) -> None:
        self._rng = np.random.default_rng(0)
        self._box = box
        self._rows = rows

    def inside(self) -> np.ndarray:
        """Returns points of the interior, shape (rows, 2), float32."""
        return self._rng.uniform(*self._box, size=(self._rows, 2)).astype(np.float32)

    def on_sides(self, axis: int, upper: Sequence[bool] = (False, True)) -> np.ndarray:
        """Returns points where one coordinate is at its least, its greatest, or either."""
        points = self.inside()
        ends = [self._box[side][axis] for side in upper]
        points[:, axis] = self._rng.choice(ends, self._rows)
        return points

    def on_edge(self) -> np.ndarray:
        """Returns points of all four sides."""
        either = self._rng.integers(0, 2, (self._rows, 1))
        return np.where(either, self.on_sides(0), self.on_sides(1))


def make_entry(
    name: str,
    residuals: Sequence[Residual],
    points: Sequence[np.ndarray],
    exact: Callable[[np.ndarray], np.ndarray],
    box: Box,
    widths: Sequence[int],
) -> entry_lib.Entry:
    """Returns the task of an equation.

    Args:
        name: Of the task.
        residuals: Equation and conditions.
        points: Where each is to be zero; as many rows for all.
        exact: Maps points, shape (n, 2), float64, to the solution there, shape (n, 1).
        box: The rectangle.
        widths: Of the tanh layers.
    """

    def build(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        return Collocation(widths, residuals)

    def error(model: Any) -> float:
        return relative_error(model.network, exact, box)

    rows = len(points[0])
    task = task_lib.Task(
        name,
        tuple(points),
        np.zeros((rows, len(residuals)), np.float32),
        build,
        figure="relative L2 error of u",
        error=error,
    )
    return entry_lib.Entry(task, True, None, (rows, rows // 4))


def relative_error(
    network: Any, exact: Callable[[np.ndarray], np.ndarray], box: Box, side: int = 64
) -> float:
    """Returns |u - u*| / |u*| in the L2 norm over a grid of `side` points an edge."""
    axes = [np.linspace(low, high, side) for low, high in zip(*box, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    expected = np.asarray(exact(grid))
    found = keras.ops.convert_to_numpy(network(grid.astype(np.float32)))
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
