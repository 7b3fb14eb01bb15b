"""What a device ran in the calls of a program: JAX's profile of them, by kernel."""

from __future__ import annotations

import collections
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import exported_report
import jax
import jax.profiler

# Where a GPU's kernels and copies stand in a profile; the other lines of its plane sum them up.
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


def kernels(program: str, call: Callable[[], Any], calls: int = 3) -> list[Kernel]:
    """Returns what ran on the GPU, longest first; nothing where there is none.

    Args:
        program: Its name.
        call: Runs it; was called before.
        calls: Of which the mean is taken.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                jax.block_until_ready(call())
        [path] = pathlib.Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(path))
    durations: dict[str, list[float]] = collections.defaultdict(list)
    for plane in data.planes:
        for line in plane.lines:
            if plane.name.startswith(_PLANE) and str(line.name).startswith(_LINE):
                for event in line.events:
                    durations[event.name].append(event.duration_ns)
    found = [
        Kernel(program, name, len(values) / calls, 1e-3 * sum(values) / calls)
        for name, values in durations.items()
    ]
    return sorted(found, key=lambda kernel: -kernel.microseconds)


def total(found: list[Kernel]) -> exported_report.Kernels | None:
    """Returns the sums over kernels; None where there are none."""
    if not found:
        return None
    busy = sum(kernel.microseconds for kernel in found)
    return exported_report.Kernels(sum(kernel.number for kernel in found), 1e-6 * busy)
