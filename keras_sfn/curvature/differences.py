"""Derivatives by differences, extrapolated to step zero, with an estimate of their error.

Ridders' method: central differences at steps h, 2 h, 4 h, ... and their Richardson extrapolations

    D[i, 0] = (f(h_i) - f(-h_i)) / (2 h_i)
    D[i, j] = D[i-1, j-1] + (D[i-1, j-1] - D[i, j-1]) / (4^j - 1)

The entry that differs least from its parents, relative to its size, is the answer, and that
difference is the estimate of its error: short steps are wrong by rounding, long ones by truncation,
and the tableau finds the place between. It is one entry for all slices, by the median of their
ratios, since a slice that is zero has none. Unlike Ridders, who shortens the step, this begins with
the shortest: the gradient of a deep network is wild over distances that look short, and from there
no trend leads inwards.

Reference: Ridders, Advances in Engineering Software 4 (1982).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

_MOST_STEPS = 16
_TINY = np.finfo("float64").tiny


def derivative(
    function: Callable[[float], np.ndarray], first_step: float, slices: Sequence[slice]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the derivative of `function` at 0, and the error of each slice.

    Doubles the step until that has not helped twice in a row.

    Args:
        function: Real -> array of shape (n,).
        first_step: The shortest step.
        slices: Parts of the vector that are judged apart.

    Returns:
        The derivative, shape (n,), and estimates of the Euclidean norm of its error over each
        slice, shape (len(slices),).
    """
    row = [_central(function, first_step)]
    best, errors, least, idle = row[0], np.full(len(slices), np.inf), np.inf, 0
    for index in range(1, _MOST_STEPS):
        shorter, row = row, [_central(function, first_step * 2**index)]
        idle += 1
        for order, parent in enumerate(shorter, start=1):
            row.append(parent + (parent - row[-1]) / (4**order - 1))
            distances = np.maximum(
                _norms(row[-1] - row[-2], slices), _norms(row[-1] - parent, slices)
            )
            # Differences of a bounded gradient shrink as steps grow: only ratios say something.
            ratio = float(np.median(distances / np.maximum(_norms(row[-1], slices), _TINY)))
            if ratio < least:
                best, errors, least, idle = row[-1], distances, ratio, 0
        if idle == 2:
            break
    return best, errors


def _central(function: Callable[[float], np.ndarray], step: float) -> np.ndarray:
    return (function(step) - function(-step)) / (2 * step)


def _norms(vector: np.ndarray, slices: Sequence[slice]) -> np.ndarray:
    return np.array([np.linalg.norm(vector[part]) for part in slices])
