"""Critical points of a function, of any index, by minimising the norm of its gradient.

With g the gradient, H the Hessian and its eigenpairs t, q, a step of Levenberg and Marquardt's
method on |g|^2 is

    s = -(H^2 + damping I)^-1 H g = -sum_j  t_j (q_j' g) / (t_j^2 + damping)  q_j,

Newton's step where the damping is small, and the steepest descent of |g|^2 where it is large. It is
taken where |g| falls, whatever the function does, so that saddles attract like minima. The damping
follows the ratio of the actual fall of |g|^2 to that of |g + H s|^2.

|g| may have minima where g is not zero: there g lies in the kernel of H. Such gradient-flat points
are told apart from critical points, as Frye et al. ask for.

Reference: Frye et al., Numerically recovering the critical points of a deep linear autoencoder
(2019), and Critical point-finding methods reveal gradient-flat regions of deep network losses,
Neural Computation 33 (2021); Roosta, Liu, Xu and Mahoney, Newton-MR (2018), which takes the same
step without damping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

CONVERGED, FLAT, UNFINISHED = "converged", "gradient-flat", "unfinished"

# Relative to the largest squared eigenvalue.
_FIRST_DAMPING = 1e-4
_LEAST_DAMPING = 1e-24
_MOST_DAMPING = 1e8
# Ratios of actual to predicted fall: to take a step, to raise the damping, to lower it.
_TAKEN, _POOR, _GOOD = 1e-4, 0.25, 0.75
# |H g| relative to |H| |g| where g counts as one of the kernel.
_IN_KERNEL = 1e-6


class Point(NamedTuple):
    """Where a search ended.

    Attributes:
        parameters: Shape (n,).
        eigenvalues: Shape (n,), of the Hessian there, ascending.
        gradient_norms: Euclidean norm of the gradient at the start and after each step.
        outcome: `CONVERGED`: the last norm is at most the tolerance; `FLAT`: the gradient lies in
            the kernel of the Hessian, or no step makes it smaller; `UNFINISHED`: steps ran out.
    """

    parameters: np.ndarray
    eigenvalues: np.ndarray
    gradient_norms: list[float]
    outcome: str


def find(
    gradient: Callable[[np.ndarray], np.ndarray],
    hessian: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    *,
    tolerance: float,
    most_steps: int,
) -> Point:
    """Searches a critical point.

    Args:
        gradient: Shape (n,) -> (n,).
        hessian: Shape (n,) -> (n, n), symmetric.
        start: Shape (n,).
        tolerance: Norm of the gradient below which a point is critical.
        most_steps: A Hessian and its eigenpairs each.
    """
    here, slope = start, gradient(start)
    norms = [float(np.linalg.norm(slope))]
    damping = _FIRST_DAMPING
    while True:
        values, vectors = np.linalg.eigh(hessian(here))
        outcome = _outcome(values, vectors.T @ slope, tolerance)
        if outcome or len(norms) > most_steps:
            return Point(here, values, norms, outcome or UNFINISHED)
        found = _step(gradient, here, slope, values, vectors, damping)
        if found is None:
            return Point(here, values, norms, FLAT)
        here, slope, damping = found
        norms.append(float(np.linalg.norm(slope)))


def _outcome(values: np.ndarray, coordinates: np.ndarray, tolerance: float) -> str:
    norm = np.linalg.norm(coordinates)
    if norm <= tolerance:
        return CONVERGED
    in_kernel = np.linalg.norm(values * coordinates) <= _IN_KERNEL * np.abs(values).max() * norm
    return FLAT if in_kernel else ""


def _step(
    gradient: Callable[[np.ndarray], np.ndarray],
    here: np.ndarray,
    slope: np.ndarray,
    values: np.ndarray,
    vectors: np.ndarray,
    damping: float,
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Returns the next point, its gradient and damping; None where no step lowers the norm."""
    coordinates = vectors.T @ slope
    squares = values**2
    before = slope @ slope
    while damping <= _MOST_DAMPING:
        shift = squares + damping * squares.max()
        there = here - vectors @ (values * coordinates / shift)
        after = gradient(there)
        predicted = before - np.sum((coordinates * (1 - squares / shift)) ** 2)
        ratio = (before - after @ after) / predicted
        if ratio > _GOOD:
            damping = max(damping / 10, _LEAST_DAMPING)
        elif not ratio > _POOR:  # NaN too.
            damping *= 10
        if ratio > _TAKEN:
            return there, after, damping
    return None
