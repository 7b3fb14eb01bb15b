"""Lanczos with the basis in NumPy, for spectra: one product a step, nothing else is compiled.

`lanczos` compiles the whole process into one program, which is worth it where the program runs at
every step of a training. For a spectrum it is not: 80 rows compile for some 15 seconds of a
CPU, and eagerly takes 8, where this takes 0.3 on a network of 1,810 parameters. The basis stands in
the memory of the machine also where products are made on a GPU.

The recurrence is that of `lanczos`, with two classical Gram-Schmidt passes over all rows ("twice is
enough", Giraud, Langou and Rozloznik, Computers and Mathematics with Applications 50 (2005)).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def tridiagonalise(
    matvec: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    num_steps: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Returns a symmetric operator seen from a Krylov basis, shape (k, k).

    Args:
        matvec: The operator, from shape (n,) to shape (n,).
        start: Shape (n,), not zero; its dtype is that of the basis.
        num_steps: Number k of rows, at most n.
        random: Gives the vector from which the basis goes on where the Krylov space is exhausted.

    Returns:
        Double precision, tridiagonal to rounding; NaN where a product is not finite.
    """
    basis = np.empty((num_steps, len(start)), start.dtype)
    projected = np.zeros((num_steps, num_steps))
    row, length, largest = start, np.linalg.norm(start), 0.0
    for index in range(num_steps):
        basis[index] = row / length
        product = matvec(basis[index])
        norm = float(np.linalg.norm(product))
        if not np.isfinite(norm):
            return np.full_like(projected, np.nan)
        largest = max(largest, norm)
        rows = basis[: index + 1]
        projected[index, : index + 1], row = _orthogonalised(rows, product)
        length = np.linalg.norm(row)
        if length <= 10 * np.finfo(start.dtype).eps * largest:
            fresh = random.normal(size=len(start)).astype(start.dtype)
            row = _orthogonalised(rows, fresh)[1]
            length = np.linalg.norm(row)
    return np.tril(projected) + np.tril(projected, -1).T


def _orthogonalised(rows: np.ndarray, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the coefficients of a vector in orthonormal rows, and what is left of it."""
    coefficients = rows @ vector
    left = vector - coefficients @ rows
    return coefficients, left - (rows @ left) @ rows
