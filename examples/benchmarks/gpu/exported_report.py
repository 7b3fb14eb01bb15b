"""What is said of exported programs that were run on a device: differences, floors, the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

# An output is kept whole up to this length. The stride beyond shares no factor with usual widths.
_SHORT = 10_000
_STRIDE = 17


class Rates(NamedTuple):
    """What the device can do, per second.

    Attributes:
        flops: Floating-point operations of a large product of matrices.
        bytes: Read and written by a pass over long vectors.
    """

    flops: float
    bytes: float


class Kernels(NamedTuple):
    """What a device ran in one call of a program.

    Attributes:
        number: Kernels and copies.
        busy_seconds: The sum of their times.
    """

    number: float
    busy_seconds: float


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        name: The program, or what is derived from two of them.
        compile_seconds: None where nothing was compiled.
        milliseconds: Median.
        floor_milliseconds: The longer of the arithmetic and the traffic that it cannot do without,
            at the device's rates; None where that is next to nothing.
        times_floor: Quotient of the two.
        difference: Largest relative difference of an output from TensorFlow's on a CPU.
        kernels: As `Kernels.number`; None where the device tells nothing of them.
        busy_milliseconds: As `Kernels.busy_seconds`, likewise.
    """

    name: str
    compile_seconds: float | None
    milliseconds: float
    floor_milliseconds: float | None
    times_floor: float | None
    difference: float | None
    kernels: float | None = None
    busy_milliseconds: float | None = None


class Run(NamedTuple):
    """One program as it ran.

    Attributes:
        about: What the export says of it.
        compile_seconds: Time of its compilation.
        seconds: Median time of a call.
        difference: As in `Row`.
        kernels: What the device ran; None where it does not tell.
    """

    about: Mapping[str, Any]
    compile_seconds: float
    seconds: float
    difference: float
    kernels: Kernels | None = None


def thinned(array: Any) -> np.ndarray:
    """Returns what is kept of an output: all of a short one, every 17th number of a long one.

    The files of all programs would otherwise hold each of a model's parameters several times.
    """
    values = np.asarray(array)
    return values if values.size <= _SHORT else values.reshape(-1)[::_STRIDE]


def difference(expected: Any, found: Any) -> float:
    """Returns |found - expected| / |expected|, infinite where only one of the two is finite."""
    want, got = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    if want.shape != got.shape:
        return float("inf")
    same = (want == got) | (np.isnan(want) & np.isnan(got))
    if not np.all(same | (np.isfinite(want) & np.isfinite(got))):
        return float("inf")
    error = np.linalg.norm(np.where(same, 0, got) - np.where(same, 0, want))
    size = np.linalg.norm(np.where(np.isfinite(want), want, 0))
    return float(error / size) if size else float(error)


def floor_seconds(flops: float, bytes_: float, rates: Rates) -> float:
    """Returns how long the longer of both takes; the other may hide behind it."""
    return max(flops / rates.flops, bytes_ / rates.bytes)


def rows(runs: Mapping[str, Run], rates: Rates) -> list[Row]:
    """Returns a row a program, and one an iteration for each program that ran with several k."""
    table = [_row(name, run, rates) for name, run in runs.items()]
    for kind in dict.fromkeys(run.about["program"] for run in runs.values()):
        loops = [run for run in runs.values() if run.about["program"] == kind]
        loops.sort(key=lambda run: run.about["krylov_dimension"] or 0)
        if len(loops) > 1 and all(run.about["flops"] is not None for run in loops):
            table.append(_iteration(kind, loops[0], loops[-1], rates))
    return table


def _row(name: str, run: Run, rates: Rates) -> Row:
    floor = None
    if run.about["flops"] is not None:
        floor = floor_seconds(run.about["flops"], run.about["bytes"], rates)
    row = _with_floor(name, run.compile_seconds, run.seconds, floor, run.difference)
    if run.kernels is None:
        return row
    return row._replace(
        kernels=run.kernels.number, busy_milliseconds=1e3 * run.kernels.busy_seconds
    )


def _iteration(kind: str, short: Run, long: Run, rates: Rates) -> Row:
    """What one iteration more takes: the difference of two loops."""
    first, last = short.about["krylov_dimension"], long.about["krylov_dimension"]
    more = last - first
    flops = (long.about["flops"] - short.about["flops"]) / more
    bytes_ = (long.about["bytes"] - short.about["bytes"]) / more
    seconds = (long.seconds - short.seconds) / more
    name = f"{kind}, an iteration ({first} to {last})"
    return _with_floor(name, None, seconds, floor_seconds(flops, bytes_, rates), None)


def _with_floor(
    name: str,
    compile_seconds: float | None,
    seconds: float,
    floor: float | None,
    difference: float | None,
) -> Row:
    return Row(
        name,
        compile_seconds,
        1e3 * seconds,
        None if floor is None else 1e3 * floor,
        None if floor is None else seconds / floor,
        difference,
    )
