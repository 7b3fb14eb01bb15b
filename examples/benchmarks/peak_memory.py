"""Peak memory of a step in vectors of the length of the parameters, from fresh processes."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import measure

_SCRIPT = pathlib.Path(__file__).parent / "peak_of_steps.py"


class Peak(NamedTuple):
    """How the peak grows with the number n of parameters, in units of n numbers.

    What does not grow with n (Python, TensorFlow, the compiler) is in neither figure.

    Attributes:
        krylov_dimension: Lanczos vectors a step.
        basis_rows: Vectors in the basis, with the previous step if it has a place there.
        parameters_small: n of the one process.
        parameters_large: n of the other.
        vectors: Growth of the peak over the growth of n, without the parameters themselves.
        beyond_basis: The same without the basis.
    """

    krylov_dimension: int
    basis_rows: int
    parameters_small: int
    parameters_large: int
    vectors: float
    beyond_basis: float


def of_step(
    small: Sequence[int], large: Sequence[int], rows: int, krylov_dimension: int, newton: str
) -> Peak:
    """Trains two autoencoders of different size, each in a process of its own.

    Args:
        small: Widths of the one.
        large: Widths of the other.
        rows: Of the batch; few, so that activations take next to nothing.
        krylov_dimension: Lanczos vectors a step.
        newton: Other arguments of the optimizer.
    """
    first, second = (_run(widths, rows, krylov_dimension, newton) for widths in (small, large))
    grown = second["parameters"] - first["parameters"]
    vectors = (second["peak_bytes"] - first["peak_bytes"]) / (4 * grown) - 1
    return Peak(
        krylov_dimension,
        second["basis_rows"],
        first["parameters"],
        second["parameters"],
        vectors,
        vectors - second["basis_rows"],
    )


def _run(widths: Sequence[int], rows: int, krylov_dimension: int, newton: str) -> dict[str, Any]:
    flags = [f"--widths={','.join(map(str, widths))}", f"--rows={rows}", f"--newton={newton}"]
    output = measure.output_of(_SCRIPT, [*flags, f"--krylov_dimension={krylov_dimension}"])
    return json.loads(output.splitlines()[-1])
