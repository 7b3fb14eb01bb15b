"""What the benchmarks share: timing in turn, fresh processes, versions, figures."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
import matplotlib
import numpy as np

import keras_sfn

matplotlib.use("Agg")
from matplotlib import figure as figure_lib
from matplotlib import pyplot as plt


class Timing(NamedTuple):
    """How long the calls of one function took.

    Attributes:
        first: Seconds of the first call, compilation included.
        seconds: Those of each later call.
    """

    first: float
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the later calls, in seconds."""
        return float(np.median(self.seconds))


def in_turn(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Times functions that end when their work is done, in turn, so that drift hits all alike.

    Args:
        functions: Name -> a function without arguments; a tensor that it returns is waited for.
        repeats: Timed calls of each, after a first one that is reported apart.
    """
    first = {}
    progress = keras.utils.Progbar(len(functions) * (repeats + 1), unit_name="call")
    for name, function in functions.items():
        first[name] = _seconds(function)
        progress.add(1)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            seconds[name].append(_seconds(function))
            progress.add(1)
    return {name: Timing(first[name], tuple(seconds[name])) for name in functions}


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    result = function()
    if result is not None:
        np.asarray(result)
    return time.perf_counter() - start


def versions(packages: Sequence[str] = ("tensorflow", "keras", "numpy")) -> str:
    """Returns one line that says with what figures were taken: versions and cores, no names."""
    # The package that is imported, which need not be the one that is installed.
    parts = [f"Python {platform.python_version()}", f"keras_sfn {keras_sfn.__version__}"]
    parts += [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return ", ".join([*parts, f"{len(os.sched_getaffinity(0))} CPU cores"])


def save_figure(path: pathlib.Path, figure: figure_lib.Figure, made_with: str) -> None:
    """Writes a figure, with a footnote that says with what it was made, and closes it."""
    # A label, for which a layout keeps room.
    figure.supxlabel(made_with, x=0.995, ha="right", fontsize=5, color="grey")
    figure.savefig(path, dpi=120)
    plt.close(figure)


class ProgramError(Exception):
    """A script of the project failed; the message says in one line why."""


def output_of(script: pathlib.Path, flags: Sequence[str]) -> str:
    """Runs a script of the project in a fresh Python process and returns what it prints.

    Raises:
        SystemExit: It failed; with the last line of its errors.
    """
    try:
        return run_program(script, flags)
    except ProgramError as error:
        sys.exit(str(error))


def run_program(script: pathlib.Path, flags: Sequence[str], patience: float | None = None) -> str:
    """Does what `output_of` does, for callers that can do without the result.

    Args:
        script: The script.
        flags: Its arguments.
        patience: Seconds after which it is ended; None for never.

    Raises:
        ProgramError: It failed; with the last line of its errors.
    """
    label = f"{script.name} {' '.join(flags)}"
    try:
        done = subprocess.run(
            [sys.executable, str(script), *flags],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{label} was ended after {patience:g} s") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ProgramError(f"{label} failed ({done.returncode}): {reason}")
    return done.stdout
