"""Random points of boxes and of their faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Draw = Callable[[np.random.Generator, int], np.ndarray]


def inside(lower: Sequence[float], upper: Sequence[float]) -> Draw:
    """Returns what draws uniform points of a box."""

    def draw(generator: np.random.Generator, rows: int) -> np.ndarray:
        return generator.uniform(lower, upper, (rows, len(lower)))

    return draw


def edge(lower: Sequence[float], upper: Sequence[float], along: Sequence[int]) -> Draw:
    """Returns what draws uniform points of the faces on which one coordinate is extreme.

    Args:
        lower: Least coordinates of the box.
        upper: Largest ones.
        along: The coordinates that are set to either end, one a point.
    """
    box = inside(lower, upper)

    def draw(generator: np.random.Generator, rows: int) -> np.ndarray:
        points = box(generator, rows)
        chosen = generator.choice(np.asarray(along), rows)
        ends = np.stack([lower, upper])[generator.integers(0, 2, rows), chosen]
        points[np.arange(rows), chosen] = ends
        return points

    return draw


def face(lower: Sequence[float], upper: Sequence[float], index: int, value: float) -> Draw:
    """Returns what draws uniform points of a box with one coordinate given."""
    box = inside(lower, upper)

    def draw(generator: np.random.Generator, rows: int) -> np.ndarray:
        points = box(generator, rows)
        points[:, index] = value
        return points

    return draw


def grid(axes: Sequence[np.ndarray]) -> Draw:
    """Returns what draws points of a grid, each at most once while there are enough."""
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))

    def draw(generator: np.random.Generator, rows: int) -> np.ndarray:
        return nodes[generator.choice(len(nodes), rows, replace=rows > len(nodes))]

    return draw
