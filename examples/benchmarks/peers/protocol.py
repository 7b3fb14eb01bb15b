"""What the driver, `compare.py`, and a peer's program tell each other. Needs NumPy alone.

The driver writes a `Problem` to a file; the program reads it, works, and prints one line of JSON
(`Report`) as the last line of its output.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import itertools
import json
import pathlib
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

# Numbers of each row that one block of a matrix product takes into double precision.
_BLOCK = 1 << 16


class Problem(NamedTuple):
    """The mean squared error of an autoencoder on one batch, and where Lanczos starts.

    A layer maps values to `values @ kernel + bias`, and where it is so marked to their tanh.

    Attributes:
        kernels: Shape (inputs, units) of each layer, float32.
        biases: Shape (units,) of each layer, float32.
        tanh: Of each layer, whether a tanh follows.
        inputs: Shape (rows, pixels), float32; the targets too.
        start: Shape (n,), float32, over kernel and bias of each layer in turn, raveled in C order.
    """

    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    tanh: tuple[bool, ...]
    inputs: np.ndarray
    start: np.ndarray

    @property
    def weights(self) -> list[np.ndarray]:
        """Kernel and bias of each layer in turn."""
        return [part for pair in zip(self.kernels, self.biases, strict=True) for part in pair]

    @property
    def point(self) -> np.ndarray:
        """All weights as one vector, shape (n,)."""
        return np.concatenate([part.ravel() for part in self.weights])


class Report(NamedTuple):
    """What a program found.

    Attributes:
        versions: With what.
        first_seconds: Of the first call, compilation included.
        seconds: Of each later call.
        products: Hessian-vector products in a call.
        smallest: Least Ritz value.
        largest: Greatest Ritz value.
        orthogonality: max|Q Q' - I| of the basis; None where it was not asked for.
    """

    versions: str
    first_seconds: float
    seconds: list[float]
    products: int
    smallest: float
    largest: float
    orthogonality: float | None


def make_problem(sizes: Sequence[int], rows: int, seed: int) -> Problem:
    """Returns a seeded problem: weights uniform as Glorot's, inputs uniform in [0, 1).

    Args:
        sizes: Units of each layer from the input to the code; the way back mirrors them. Code and
            output are linear, all other layers tanh.
        rows: Of the batch.
        seed: Of weights, inputs and start.
    """
    rng = np.random.default_rng(seed)
    widths = [*sizes, *reversed(sizes[:-1])]
    pairs = list(itertools.pairwise(widths))
    kernels = [rng.uniform(-1, 1, pair) * np.sqrt(6 / sum(pair)) for pair in pairs]
    linear = (len(sizes) - 2, len(pairs) - 1)
    start = rng.normal(size=sum(kernel.size + kernel.shape[1] for kernel in kernels))
    return Problem(
        kernels=tuple(kernel.astype("float32") for kernel in kernels),
        biases=tuple(np.zeros(kernel.shape[1], "float32") for kernel in kernels),
        tanh=tuple(index not in linear for index in range(len(pairs))),
        inputs=rng.uniform(size=(rows, widths[0])).astype("float32"),
        start=(start / np.linalg.norm(start)).astype("float32"),
    )


def write_problem(path: pathlib.Path, problem: Problem) -> None:
    """Writes an .npz file."""
    arrays: dict[str, Any] = {f"kernel{i:02}": part for i, part in enumerate(problem.kernels)}
    arrays |= {f"bias{i:02}": part for i, part in enumerate(problem.biases)}
    np.savez(path, tanh=problem.tanh, inputs=problem.inputs, start=problem.start, **arrays)


def read_problem(path: pathlib.Path) -> Problem:
    """Reads what `write_problem` wrote."""
    with np.load(path) as file:
        return Problem(
            kernels=tuple(file[name] for name in sorted(file) if name.startswith("kernel")),
            biases=tuple(file[name] for name in sorted(file) if name.startswith("bias")),
            tanh=tuple(bool(value) for value in file["tanh"]),
            inputs=file["inputs"],
            start=file["start"],
        )


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns the arguments that each program takes."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--problem", type=pathlib.Path, required=True)
    result.add_argument("--krylov_dimension", type=int, required=True)
    result.add_argument("--repeats", type=int, default=3)
    result.add_argument("--orthogonality", action="store_true")
    return result


def time_calls(function: Callable[[], Any], repeats: int) -> tuple[float, list[float], Any]:
    """Returns the seconds of a first call, those of `repeats` more, and what the last returned.

    What the function prints is left out: the report is all that the driver reads.
    """
    seconds = []
    result = None
    for _ in range(repeats + 1):
        # The last result goes first, so that two never share the memory.
        result = None
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            result = function()
        seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1:], result


def loss_of_orthogonality(basis: np.ndarray) -> float:
    """Returns max|Q Q' - I| for rows Q of shape (k, n), summed in double precision."""
    gram = -np.eye(len(basis))
    for begin in range(0, basis.shape[1], _BLOCK):
        block = basis[:, begin : begin + _BLOCK].astype("float64")
        gram += block @ block.T
    return float(np.abs(gram).max())


def versions(packages: Sequence[str]) -> str:
    """Returns one line with Python's version and those of `packages`."""
    parts = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return ", ".join([f"Python {platform.python_version()}", *parts])


def report(
    made_with: str,
    timing: tuple[float, list[float]],
    products: int,
    ritz_values: np.ndarray,
    basis: np.ndarray | None,
) -> None:
    """Prints a `Report`.

    Args:
        made_with: Versions.
        timing: Seconds of the first call, and those of the others.
        products: Hessian-vector products in a call.
        ritz_values: In any order.
        basis: Shape (k, n), or None.
    """
    found = Report(
        versions=made_with,
        first_seconds=timing[0],
        seconds=timing[1],
        products=products,
        smallest=float(np.min(ritz_values)),
        largest=float(np.max(ritz_values)),
        orthogonality=None if basis is None else loss_of_orthogonality(basis),
    )
    print(json.dumps(found._asdict()), flush=True)
