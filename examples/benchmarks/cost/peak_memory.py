"""Peak memory of a step in vectors of the length of the parameters, from a fresh process."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.common import measure

_SCRIPT = pathlib.Path(__file__).parent / "peak_of_steps.py"


class Peak(NamedTuple):
    """What steps take, in vectors of n numbers.

    Attributes:
        parameters: Number n of parameters.
        krylov_dimension: Lanczos vectors a step, or `"auto"`: preconditioned directions.
        basis_rows: Vectors in the basis, with the previous step if it has a place there.
        vectors: What XLA reserves for the step's program, with what goes in and comes out, without
            the parameters themselves. Where it compiles nothing, as `allocated`.
        beyond_basis: The same without the basis.
        allocated: What TensorFlow had allocated at the peak of the steps after the first, without
            the parameters. It rounds the one block that XLA's program works in up.
        process_vectors: By how much the peak of the process rose from before the first step: with
            what the compiler took, and what was freed and not given back.
    """

    parameters: int
    krylov_dimension: int | str
    basis_rows: int
    vectors: float
    beyond_basis: float
    allocated: float
    process_vectors: float


def of_steps(widths: Sequence[int], rows: int, krylov_dimension: int | str, newton: str) -> Peak:
    """Trains an autoencoder in a process of its own.

    Args:
        widths: Of the autoencoder.
        rows: Of the batch; few, so that activations take next to nothing.
        krylov_dimension: Lanczos vectors a step, or `"auto"`.
        newton: Other arguments of the optimizer.
    """
    figures = _run(widths, rows, krylov_dimension, newton)
    vector = 4 * figures["parameters"]
    allocated = figures["allocated_bytes"] / vector - 1
    program = figures["program_bytes"]
    vectors = allocated if program is None else program / vector - 1
    return Peak(
        figures["parameters"],
        krylov_dimension,
        figures["basis_rows"],
        vectors,
        vectors - figures["basis_rows"],
        allocated,
        figures["process_bytes"] / vector,
    )


def _run(
    widths: Sequence[int], rows: int, krylov_dimension: int | str, newton: str
) -> dict[str, Any]:
    flags = [f"--widths={','.join(map(str, widths))}", f"--rows={rows}", f"--newton={newton}"]
    output = measure.output_of(_SCRIPT, [*flags, f"--krylov_dimension={krylov_dimension}"])
    return json.loads(output.splitlines()[-1])
