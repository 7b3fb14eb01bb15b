"""Trains an autoencoder for a few steps in `fit`, and prints as JSON how long each took.

`compile_time.py` runs it, because only the first training of a process compiles all.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

import keras
from absl import app, flags

from benchmarks.common import deep_autoencoder, newton_options
from helpers import command_line

_OPTIMIZER = flags.DEFINE_enum("optimizer", "newton", ["newton", "adam"], "What trains.")
_JIT = flags.DEFINE_enum("jit_compile", "auto", ["auto", "true", "false"], "Its `jit_compile`.")
_WIDTHS = flags.DEFINE_list("widths", ["12", "8", "4"], "Pixels, and widths down to the code.")
_ROWS = flags.DEFINE_integer("rows", 16, "Rows of the batch.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 3, "Steps to take.", lower_bound=2)
_NEWTON = flags.DEFINE_string("newton", "", "Other arguments of our optimizer.")


class Clock(keras.callbacks.Callback):
    """Takes the time at the end of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads the clock."""
        self.times.append(time.perf_counter())


def compiled_model(widths: Sequence[int]) -> keras.Model:
    """Returns the autoencoder, ready to train."""
    jit: bool | str = "auto" if _JIT.value == "auto" else _JIT.value == "true"
    model = deep_autoencoder.build(widths)
    if _OPTIMIZER.value == "adam":
        model.compile(keras.optimizers.Adam(), "mse", jit_compile=jit)
    else:
        optimizer = newton_options.optimizer("newton", _NEWTON.value, jit_compile=jit)
        model.compile(optimizer, "mse")
    return model


def main(argv: Sequence[str]) -> None:
    """Trains and prints."""
    command_line.refuse_arguments(argv)
    widths = command_line.positive_integers("widths", _WIDTHS.value, least=2)
    model = compiled_model(widths)
    images = deep_autoencoder.batch(widths, _ROWS.value * _STEPS.value).numpy()
    clock = Clock()
    start = time.perf_counter()
    model.fit(images, images, batch_size=_ROWS.value, verbose=0, callbacks=[clock])
    times = [start, *clock.times]
    seconds = [after - before for before, after in itertools.pairwise(times)]
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    app.run(main)
