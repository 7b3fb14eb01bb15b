"""A symmetric operator as one of SciPy, which is optional."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np


def sparse_linalg(what: str) -> Any:
    """Returns `scipy.sparse.linalg`.

    Args:
        what: Who needs it, for the error.

    Raises:
        ImportError: SciPy is not installed.
    """
    try:
        return importlib.import_module("scipy.sparse.linalg")
    except ImportError as error:
        raise ImportError(
            f"`{what}` needs SciPy, and the package is not installed. Run `pip install scipy`."
        ) from error


def linear_operator(
    matvec: Callable[[np.ndarray], Any],
    shape: tuple[int, int],
    dtype: str,
    outer_dtype: str | None = None,
) -> Any:
    """Returns a `scipy.sparse.linalg.LinearOperator`.

    Args:
        matvec: Symmetric, from an array of shape (n,) to a tensor of that shape.
        shape: (n, n).
        dtype: Of `matvec`'s vectors.
        outer_dtype: Of the vectors that SciPy sees; None for the same.

    Raises:
        ImportError: SciPy is not installed.
    """
    outer = outer_dtype or dtype

    def product(vector: np.ndarray) -> np.ndarray:
        return matvec(np.reshape(vector, -1).astype(dtype)).numpy().astype(outer)

    return sparse_linalg("to_scipy").LinearOperator(
        shape, matvec=product, rmatvec=product, dtype=np.dtype(outer)
    )
