"""What `compare.py` trains unless a flag says otherwise, and how its flags are read."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras_sfn
from benchmarks.common import newton_options
from benchmarks.time_to_loss import hessianlearn_runs


class Settings(NamedTuple):
    """Budget and grids of one task.

    Attributes:
        seconds: Training time of each run.
        adam_rates: Initial learning rates of Adam.
        sgd_rates: Those of SGD with Nesterov momentum 0.99, at which a step is 100 times as long.
        batch_sizes: Rows a step of both.
        newton_batch_size: Rows a step of saddle-free Newton, ours and hessianlearn's; None for all.
        hessianlearn: Settings of the latter.
    """

    seconds: float
    adam_rates: tuple[float, ...]
    sgd_rates: tuple[float, ...]
    batch_sizes: tuple[int, ...]
    newton_batch_size: int | None = None
    hessianlearn: tuple[hessianlearn_runs.Setting, ...] = ()


DEFAULTS = {
    "digits_autoencoder": Settings(
        40, (3e-4, 1e-3, 2e-3, 3e-3, 6e-3), (3e-3, 1e-2, 3e-2, 1e-1), (64, 128, 256)
    ),
    "fashion_autoencoder": Settings(
        600, (3e-4, 1e-3, 2e-3, 4e-3), (1e-2, 3e-2, 1e-1, 3e-1), (128, 256, 512), 4096
    ),
    "adding": Settings(60, (3e-4, 1e-3, 2e-3, 4e-3), (3e-4, 1e-3, 3e-3, 1e-2), (50, 100, 200)),
    "poisson": Settings(40, (1e-3, 3e-3, 1e-2, 3e-2), (1e-8, 1e-7, 1e-6, 1e-5), (150, 500, 1500)),
}

# With --quick every task has these.
QUICK = Settings(1, (1e-3,), (1e-3,), (50,))
QUICK_POINTS = 4
QUICK_SIZES = {"rows": 100, "hidden": [8, 8], "length": 6, "units": 8}


class Variant(NamedTuple):
    """One variant of saddle-free Newton.

    Attributes:
        settings: As the flag has it, or "defaults".
        options: Arguments of `keras_sfn.SaddleFreeNewton`.
        batch_size: Rows a step; None for the task's own.
    """

    settings: str
    options: dict[str, Any]
    batch_size: int | None


def newton_variant(text: str) -> Variant:
    """Reads `name=value,...`: Python literals, arguments of the optimizer or `batch_size`.

    Raises:
        SystemExit: It cannot be read, or the optimizer refuses an argument; one line says why.
    """
    flag = f"--newton={text}"
    try:
        options = newton_options.read(text)
    except ValueError:
        sys.exit(
            f"{flag} cannot be read. Write name=value, separated by commas, such as "
            '--newton="krylov_dimension=5,inner_steps=2".'
        )
    batch_size = options.pop("batch_size", None)
    if batch_size is not None and not (isinstance(batch_size, int) and batch_size >= 1):
        sys.exit(f"{flag}: `batch_size` must be an integer >= 1.")
    try:
        keras_sfn.SaddleFreeNewton(**options)
    except (TypeError, ValueError) as error:
        sys.exit(f"{flag} is refused: {' '.join(str(error).split())}")
    return Variant(text or "defaults", options, batch_size)


def hessianlearn_grid(
    ranks: Sequence[str] | None, dampings: Sequence[str] | None, steps: Sequence[str] | None
) -> tuple[hessianlearn_runs.Setting, ...]:
    """Reads the grid of hessianlearn's settings: all combinations; None for the defaults.

    Raises:
        SystemExit: One is not positive, or there is none of a kind.
    """
    line_search = hessianlearn_runs.LINE_SEARCH
    lengths = [line_search] if steps is None else list(steps)
    numbers = [length for length in lengths if length != line_search]
    if numbers or not lengths:
        positive_numbers("hessianlearn_steps", numbers)
    return tuple(
        hessianlearn_runs.Setting(*setting)
        for setting in itertools.product(
            positive_integers("hessianlearn_ranks", ranks or ("20", "40")),
            positive_numbers("hessianlearn_dampings", dampings or ("1e-3", "1e-2", "1e-1")),
            lengths,
        )
    )


def positive_numbers(name: str, values: Sequence[str]) -> tuple[float, ...]:
    """Reads a list of positive numbers.

    Args:
        name: Of the flag.
        values: Its parts.

    Raises:
        SystemExit: One is not positive and finite, or there is none.
    """
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < math.inf for number in numbers):
        sys.exit(f"--{name}={','.join(values)} must be positive numbers, separated by commas.")
    return tuple(numbers)


def positive_integers(name: str, values: Sequence[str]) -> tuple[int, ...]:
    """Reads a list of positive integers, as `positive_numbers` does.

    Raises:
        SystemExit: One is not a positive integer, or there is none.
    """
    if not values or not all(value.isdecimal() and int(value) >= 1 for value in values):
        sys.exit(f"--{name}={','.join(values)} must be integers >= 1, separated by commas.")
    return tuple(int(value) for value in values)
