"""A spectrum from few products: quadrature by Lanczos, and densities made of it.

The matrix T that Lanczos makes of a symmetric A from a start v has eigenpairs t_j, y_j. Nodes t_j
and weights w_j = (first component of y_j)^2 are Gauss's for the spectrum of A as v sees it:

    sum_j w_j f(t_j)  ~  v' f(A) v / v' v,    exact for polynomials f up to degree 2 k - 1.

The mean over random v is the mean of f over the eigenvalues of A.

Reference: Golub and Meurant, Matrices, Moments and Quadrature with Applications (2010); Lin, Saad
and Yang, Approximating spectral densities of large matrices, SIAM Review 58 (2016).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Relative to the largest node: a spectrum narrower than this is one point.
_POINT = 1e-12


class Quadrature(NamedTuple):
    """Gauss quadrature of a spectrum.

    Attributes:
        nodes: Shape (k,), Ritz values, ascending.
        weights: Shape (k,), not negative, add up to 1.
    """

    nodes: np.ndarray
    weights: np.ndarray


def gauss(projected: np.ndarray) -> Quadrature:
    """Returns the quadrature of a matrix that Lanczos made.

    Args:
        projected: Shape (k, k), symmetric and finite; the first row of the basis is the start.
    """
    nodes, vectors = np.linalg.eigh(np.asarray(projected, "float64"))
    return Quadrature(nodes, vectors[0] ** 2)


def spread(nodes: np.ndarray) -> float:
    """Returns the length over which nodes lie; their size where all are one point."""
    length = float(nodes.max() - nodes.min())
    largest = float(np.abs(nodes).max())
    return length if length > _POINT * largest else largest or 1.0


def smoothed(nodes: np.ndarray, weights: np.ndarray, grid: np.ndarray, width: float) -> np.ndarray:
    """Returns densities with a normal distribution in the place of each node.

    Args:
        nodes: Shape (probes, k).
        weights: Shape (probes, k).
        grid: Shape (points,), where the densities are wanted.
        width: Standard deviation of the normal distributions.

    Returns:
        Shape (probes, points), each of integral 1.
    """
    densities = np.empty((len(nodes), len(grid)))
    for probe, (values, masses) in enumerate(zip(nodes, weights, strict=True)):
        distances = (grid[:, None] - values) / width
        densities[probe] = np.exp(-0.5 * distances**2) @ masses
    return densities / (width * np.sqrt(2 * np.pi))
