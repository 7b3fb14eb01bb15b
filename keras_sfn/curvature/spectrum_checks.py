"""What is asked of numbers of steps and of products, before and after a spectrum is computed."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

from keras_sfn import validation
from keras_sfn.curvature import report as report_lib


def check_steps(num_steps: Any, size: int) -> None:
    """Raises unless `num_steps` is an integer in 1..n.

    Args:
        num_steps: What a user gave.
        size: n.

    Raises:
        ValueError: It is not.
    """
    validation.integer_at_least("num_steps", num_steps, 1)
    if num_steps > size:
        raise ValueError(
            f"`num_steps` must be at most n, the number of parameters ({size}). "
            f"Received: num_steps={num_steps}. Use num_steps={size}, which gives all "
            "eigenvalues."
        )


def check_memory(numbers: int, dtype: str, what: str, remedy: str) -> None:
    """Raises unless so many numbers fit into half of the machine's memory.

    Args:
        numbers: How many.
        dtype: Of each.
        what: They are, for the error.
        remedy: For the error.

    Raises:
        MemoryError: They do not.
    """
    wanted = numbers * np.dtype(dtype).itemsize
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    if wanted > available:
        raise MemoryError(
            f"{what} takes {wanted} bytes, more than half of this machine's memory ({available}). "
            f"{remedy}"
        )


def warn_of_wrong(report: report_lib.CurvatureReport) -> None:
    """Warns where products are wrong; for functions that users call themselves."""
    if report.wrong:
        warnings.warn(
            f"The curvature of {len(report.wrong)} of {len(report.variables)} variables is wrong, "
            f"of `{report.wrong[0]}` first: products with the Hessian differ from differences of "
            "the gradient, and so what is computed from them is wrong too. Print "
            "`hessian.curvature_report`, and look for a custom gradient.",
            RuntimeWarning,
            stacklevel=3,
        )


def check_finite(values: Any) -> None:
    """Raises unless what was computed from products is finite.

    Raises:
        ValueError: It is not.
    """
    if not np.isfinite(values).all():
        raise ValueError(
            "Products with the Hessian must be finite. Received: NaN or infinity. Look for NaN in "
            "the data, or for parameters that have diverged; float64 has a wider range."
        )
