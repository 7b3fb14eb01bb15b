"""Estimates from random probes, with their standard errors; the trace and diagonal of a Hessian."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from keras_sfn import validation
from keras_sfn.curvature import operator as operator_lib
from keras_sfn.curvature import spectrum_checks


class Estimate(NamedTuple):
    """A mean over random probes.

    Attributes:
        value: The mean: a float, or an array.
        standard_error: Of the mean, of the same shape: the standard deviation over the probes by
            the root of their number. NaN with one probe.
    """

    value: Any
    standard_error: Any


def mean(samples: np.ndarray) -> Estimate:
    """Returns the mean over the first axis of `samples`, shape (probes, ...)."""
    count = len(samples)
    value = samples.mean(axis=0)
    if count == 1:
        return Estimate(value, np.full_like(value, np.nan))
    return Estimate(value, samples.std(axis=0, ddof=1) / np.sqrt(count))


def estimate_trace(
    hessian: operator_lib.HessianOperator, *, num_probes: int = 32, seed: int = 0
) -> Estimate:
    """Estimates the sum of the eigenvalues of a Hessian.

    The mean of v' H v over vectors v of random signs, a product each; its variance is twice the sum
    of the squares off the diagonal. The trace over n is the mean eigenvalue.

    Args:
        hessian: The operator, of shape (n, n).
        num_probes: Integer >= 1, how many vectors.
        seed: Integer >= 0 of the vectors.

    Returns:
        An `Estimate` of two floats, in units of loss per parameter squared.

    Raises:
        TypeError: `hessian` is no `HessianOperator`.
        ValueError: An argument is out of range, or a product is not finite.

    Reference: Hutchinson, A stochastic estimator of the trace of the influence matrix,
    Communications in Statistics 18 (1989).
    """
    _check(hessian, num_probes, seed)
    samples = [float(v @ product) for v, product in _probed(hessian, num_probes, seed)]
    spectrum_checks.warn_of_wrong(hessian.curvature_report)
    value, error = mean(np.array(samples))
    return Estimate(float(value), float(error))


def estimate_diagonal(
    hessian: operator_lib.HessianOperator, *, num_probes: int = 32, seed: int = 0
) -> Estimate:
    """Estimates the diagonal of a Hessian.

    The mean of v * H v, element by element, over vectors v of random signs, a product each. The
    variance of an entry is the sum of the squares of the others in its row, so that a diagonal
    that is small against its rows needs many probes.

    Args:
        hessian: The operator, of shape (n, n).
        num_probes: Integer >= 1, how many vectors.
        seed: Integer >= 0 of the vectors.

    Returns:
        An `Estimate` of two arrays of shape (n,), in the order of the operator's coordinates.

    Raises:
        TypeError: `hessian` is no `HessianOperator`.
        ValueError: An argument is out of range, or a product is not finite.

    Reference: Bekas, Kokiopoulou and Saad, An estimator for the diagonal of a matrix, Applied
    Numerical Mathematics 57 (2007).
    """
    _check(hessian, num_probes, seed)
    value = squares = 0.0
    # Welford's recurrence: two vectors are held, however many probes there are.
    for count, (v, product) in enumerate(_probed(hessian, num_probes, seed), start=1):
        sample = v * product
        change = sample - value
        value = value + change / count
        squares = squares + change * (sample - value)
    spectrum_checks.warn_of_wrong(hessian.curvature_report)
    if num_probes == 1:
        return Estimate(value, np.full_like(value, np.nan))
    return Estimate(value, np.sqrt(squares / (num_probes - 1) / num_probes))


def _check(hessian: operator_lib.HessianOperator, num_probes: int, seed: int) -> None:
    operator_lib.check_operator(hessian)
    validation.integer_at_least("num_probes", num_probes, 1)
    validation.integer_at_least("seed", seed, 0)


def _probed(
    hessian: operator_lib.HessianOperator, num_probes: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields vectors of random signs and their products, in double precision."""
    for index in range(num_probes):
        random = np.random.default_rng([seed, index])
        signs = random.integers(0, 2, hessian.shape[0]) * 2.0 - 1.0
        product = hessian.matvec(signs.astype(hessian.dtype)).numpy().astype("float64")
        spectrum_checks.check_finite(product)
        yield signs, product
