"""Extreme eigenpairs of a Hessian, by restarted Lanczos in SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_sfn import validation
from keras_sfn.curvature import operator as operator_lib
from keras_sfn.curvature import scipy_operator, spectrum_checks

# What is wanted -> ARPACK's name for it, and the key that brings the wanted ones to the front.
_WHICH: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "largest": ("LA", lambda values: -values),
    "smallest": ("SA", lambda values: values),
    "magnitude": ("LM", lambda values: -np.abs(values)),
}
_TOLERANCE = {"float32": 1e-4, "float64": 1e-8}
_MOST_RESTARTS = 300
# A larger basis than SciPy's default of 20 vectors: bulk and outliers of a network's spectrum lie
# orders of magnitude apart, and restarts lose what was found of the smaller ones.
_LEAST_BASIS = 40


class EigenPairs(NamedTuple):
    """Extreme eigenvalues and eigenvectors.

    Attributes:
        values: Shape (count,), the wanted end first.
        vectors: Shape (count, n), orthonormal rows in the order of the operator's coordinates.
        residuals: Shape (count,), |H v - value v|: an eigenvalue of H lies as near to each value.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray


def top_eigenpairs(
    hessian: operator_lib.HessianOperator,
    count: int = 1,
    *,
    which: str = "largest",
    tolerance: float | None = None,
    seed: int = 0,
) -> EigenPairs:
    """Finds extreme eigenpairs of a Hessian, by SciPy's `eigsh` (ARPACK).

    The restarted Lanczos process runs in double precision on products in the operator's dtype, from
    a random vector. It takes from tens of products for eigenvalues that stand apart to thousands
    for those at the edge of a bulk.

    Args:
        hessian: The operator, of shape (n, n).
        count: Integer in 1..n - 1, how many.
        which: `"largest"`, `"smallest"` (the most negative ones) or `"magnitude"` (of the largest
            absolute value).
        tolerance: Relative accuracy of the eigenvalues. Defaults to 1e-8 in float64 and 1e-4 in
            float32.
        seed: Integer >= 0 of the start.

    Returns:
        `EigenPairs`; the residuals are those of products, so that they tell what is reached.

    Raises:
        TypeError: `hessian` is no `HessianOperator`.
        ValueError: An argument is out of range, or a product is not finite.
        ImportError: SciPy is not installed.
        RuntimeError: No convergence.

    Reference: Lehoucq, Sorensen and Yang, ARPACK Users' Guide (1998).
    """
    linalg = scipy_operator.sparse_linalg("top_eigenpairs")
    operator_lib.check_operator(hessian)
    validation.integer_at_least("count", count, 1)
    validation.one_of("which", which, tuple(_WHICH))
    validation.positive("tolerance", tolerance, optional=True)
    validation.integer_at_least("seed", seed, 0)
    size = hessian.shape[0]
    if count >= size:
        raise ValueError(
            f"`count` must be less than n, the number of parameters ({size}). Received: "
            f"count={count}. All eigenvalues are those of `hessian.to_dense()`."
        )
    name, order = _WHICH[which]

    def matvec(vector: np.ndarray) -> np.ndarray:
        product = hessian.matvec(vector)
        spectrum_checks.check_finite(product)
        return product

    operator = scipy_operator.linear_operator(matvec, hessian.shape, hessian.dtype, "float64")
    try:
        values, columns = linalg.eigsh(
            operator,
            count,
            which=name,
            v0=np.random.default_rng(seed).normal(size=size),
            ncv=min(size, max(2 * count + 1, _LEAST_BASIS)),
            maxiter=_MOST_RESTARTS,
            tol=_TOLERANCE[hessian.dtype] if tolerance is None else tolerance,
        )
    except linalg.ArpackNoConvergence as error:
        raise RuntimeError(
            f"{len(error.eigenvalues)} of {count} eigenvalues have converged after "
            f"{_MOST_RESTARTS} restarts. Received: count={count}, which={which!r}. They lie close "
            "together: raise `tolerance`, or see the density by `keras_sfn.spectral_density`."
        ) from error
    spectrum_checks.warn_of_wrong(hessian.curvature_report)
    first = np.argsort(order(values))
    values, vectors = values[first], columns.T[first]
    residuals = [
        np.linalg.norm(operator.matvec(vector) - value * vector)
        for value, vector in zip(values, vectors, strict=True)
    ]
    return EigenPairs(values, vectors, np.array(residuals))
