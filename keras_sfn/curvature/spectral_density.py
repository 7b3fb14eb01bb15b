"""The density of a Hessian's eigenvalues: stochastic Lanczos quadrature."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_sfn import validation
from keras_sfn.curvature import estimates, spectrum_checks
from keras_sfn.curvature import operator as operator_lib
from keras_sfn.curvature import report as report_lib
from keras_sfn.krylov import host_lanczos, quadrature

_DEFAULT_STEPS = 80
_POINTS = 1024
# Widths of the normal distributions: in the range of the nodes, and around it on the grid.
_IN_RANGE = 100
_AROUND = 5


class SpectralDensity(NamedTuple):
    """A density of eigenvalues, of integral 1, and what it was made of.

    Attributes:
        grid: Shape (points,), in units of eigenvalues: loss per parameter squared.
        density: Shape (points,), mean over the probes.
        standard_error: Shape (points,), of the density; NaN with one probe.
        nodes: Shape (probes, k), Ritz values, ascending.
        weights: Shape (probes, k), the fraction of eigenvalues for which each node stands; rows add
            up to 1.
        width: Standard deviation of the normal distribution in the place of each node.
        curvature_report: Whether the products are those of the true Hessian: true where shown.
    """

    grid: np.ndarray
    density: np.ndarray
    standard_error: np.ndarray
    nodes: np.ndarray
    weights: np.ndarray
    width: float
    curvature_report: report_lib.CurvatureReport

    def fraction_below(self, threshold: float) -> estimates.Estimate:
        """Estimates the fraction of eigenvalues below a number.

        Of a bulk around zero each probe has one node, on either side of zero by chance: ask for a
        number that the nodes of the bulk do not reach.

        Args:
            threshold: In units of eigenvalues.
        """
        value, error = estimates.mean((self.weights * (self.nodes < threshold)).sum(axis=1))
        return estimates.Estimate(float(value), float(error))


def spectral_density(
    hessian: operator_lib.HessianOperator,
    *,
    num_steps: int | None = None,
    num_probes: int = 5,
    grid: Any = None,
    width: float | None = None,
    seed: int = 0,
) -> SpectralDensity:
    """Estimates the density of the eigenvalues of a Hessian.

    From each of `num_probes` random vectors Lanczos makes nodes t and weights w, with full
    reorthogonalisation. The density is the mean over the probes of

        sum_j w_j N(x - t_j; width^2),    N the normal distribution.

    Extreme nodes approach the extreme eigenvalues from inside; outliers have nodes of their own.

    Example:
    >>> hessian = keras_sfn.HessianOperator.from_model(model, x, y)
    >>> spectrum = keras_sfn.spectral_density(hessian)
    >>> keras_sfn.plot_spectral_density(spectrum)

    Args:
        hessian: The operator, of shape (n, n).
        num_steps: Integer k in 1..n, products of a probe. Defaults to 80, or n where n is less.
        num_probes: Integer >= 1. More of them make the error smaller; in a large model one or two
            are enough.
        grid: Increasing points, shape (points,), at which the density is wanted. Defaults to 1,024
            over all nodes.
        width: Standard deviation of the normal distributions, > 0. Defaults to a hundredth of the
            range of the nodes.
        seed: Integer >= 0 of the random vectors.

    Returns:
        A `SpectralDensity`. Where `curvature_report` finds the products wrong, a `RuntimeWarning`
        says so too.

    Raises:
        TypeError: `hessian` is no `HessianOperator`.
        ValueError: An argument is out of range, or a product is not finite.
        MemoryError: The basis, `num_steps` vectors, would not fit into half of the memory.

    Reference: Lin, Saad and Yang, Approximating spectral densities of large matrices, SIAM Review
    58 (2016); Ghorbani, Krishnan and Xiao, An investigation into neural net optimization via
    Hessian eigenvalue density, ICML 2019.
    """
    operator_lib.check_operator(hessian)
    validation.integer_at_least("num_probes", num_probes, 1)
    validation.integer_at_least("seed", seed, 0)
    validation.positive("width", width, optional=True)
    points = None if grid is None else _points(grid)
    steps = min(_DEFAULT_STEPS, hessian.shape[0]) if num_steps is None else num_steps
    size = hessian.shape[0]
    spectrum_checks.check_steps(steps, size)
    spectrum_checks.check_memory(
        steps * size,
        hessian.dtype,
        f"A Krylov basis of {steps} vectors of {size} parameters",
        "Use fewer `num_steps`, or an operator of fewer variables.",
    )
    found = [_quadrature(hessian, steps, [seed, index]) for index in range(num_probes)]
    nodes, weights = (np.stack(part) for part in zip(*found, strict=True))
    width = quadrature.spread(nodes) / _IN_RANGE if width is None else float(width)
    if points is None:
        margin = _AROUND * width
        points = np.linspace(nodes.min() - margin, nodes.max() + margin, _POINTS)
    spectrum_checks.warn_of_wrong(hessian.curvature_report)
    densities = quadrature.smoothed(nodes, weights, points, width)
    density, error = estimates.mean(densities)
    return SpectralDensity(points, density, error, nodes, weights, width, hessian.curvature_report)


def _quadrature(
    hessian: operator_lib.HessianOperator, num_steps: int, seed: list[int]
) -> quadrature.Quadrature:
    # NumPy's numbers are the same on every device, and with and without XLA.
    random, size = np.random.default_rng(seed), hessian.shape[0]
    matrix = host_lanczos.tridiagonalise(
        lambda vector: hessian.matvec(vector).numpy(),
        random.normal(size=size).astype(hessian.dtype),
        num_steps,
        random,
    )
    spectrum_checks.check_finite(matrix)
    return quadrature.gauss(matrix)


def _points(grid: Any) -> np.ndarray:
    points = np.asarray(grid, "float64")
    if points.ndim != 1 or not len(points) or not np.isfinite(points).all():
        raise ValueError(
            "`grid` must be a vector of finite numbers. Received: an array of shape "
            f"{points.shape}. Pass for example np.linspace(-1, 10, 500)."
        )
    if np.any(np.diff(points) <= 0):
        raise ValueError(
            "`grid` must increase. Received: numbers that do not. Pass np.unique(grid)."
        )
    return points
