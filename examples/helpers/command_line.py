"""What the command lines of examples and benchmarks share."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags


def refuse_arguments(argv: Sequence[str]) -> None:
    """Ends the program where it has arguments that are not flags."""
    if len(argv) > 1:
        sys.exit(f"Unknown arguments: {argv[1:]}. Every setting is a --flag.")


def set_flags(values: Mapping[str, Any]) -> None:
    """Gives flags other values than those of the command line, for short forms."""
    for name, value in values.items():
        setattr(flags.FLAGS, name, value)


def positive_integers(flag: str, values: Sequence[str], least: int = 1) -> list[int]:
    """Returns the integers of a list flag; numbers such as 1e4 are allowed.

    Args:
        flag: Its name, for the message.
        values: As they were passed.
        least: How many there must be.

    Raises:
        SystemExit: One is no positive integer, or there are too few; in one line.
    """
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = [0.0]
    if len(numbers) < least or not all(n >= 1 and n == n // 1 < np.inf for n in numbers):
        sys.exit(
            f"--{flag}={','.join(values)} must be integers >= 1, at least {least} of them, with a "
            "comma between two."
        )
    return [int(number) for number in numbers]


def output_directory(name: str) -> pathlib.Path:
    """Makes a directory for results, with those above it, and returns it.

    Raises:
        SystemExit: It cannot be made; with the reason in one line.
    """
    path = pathlib.Path(name)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"--output_dir={name} cannot be made: {error.strerror}. Choose another folder.")
    return path
