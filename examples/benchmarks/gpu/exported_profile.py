"""What a GPU ran in the calls of a program: the kernels of JAX's profile of them."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from benchmarks.gpu import exported_report

# Where kernels and copies stand in a profile; the other lines of a GPU's plane sum them up.
_PLANE, _LINE = "/device:GPU:", "Stream #"


class Kernel(NamedTuple):
    """A kernel as it ran in one call of a program.

    Attributes:
        program: The program's name.
        name: The kernel's.
        number: How often it ran.
        microseconds: Of all its runs together.
    """

    program: str
    name: str
    number: float
    microseconds: float


def kernels(program: str, planes: Iterable[Any], calls: int) -> list[Kernel]:
    """Returns what ran on the GPU, longest first; nothing where there is none.

    Args:
        program: Its name.
        planes: As in `jax.profiler.ProfileData`.
        calls: That were profiled; the mean is taken.
    """
    nanoseconds: dict[str, list[float]] = collections.defaultdict(list)
    for plane in planes:
        for line in plane.lines:
            if plane.name.startswith(_PLANE) and line.name.startswith(_LINE):
                for event in line.events:
                    nanoseconds[event.name].append(event.duration_ns)
    found = [
        Kernel(program, name, len(values) / calls, 1e-3 * sum(values) / calls)
        for name, values in nanoseconds.items()
    ]
    return sorted(found, key=lambda kernel: -kernel.microseconds)


def total(found: Sequence[Kernel]) -> exported_report.Kernels | None:
    """Returns the sums over kernels; None where there are none."""
    if not found:
        return None
    busy = sum(kernel.microseconds for kernel in found)
    return exported_report.Kernels(sum(kernel.number for kernel in found), 1e-6 * busy)
