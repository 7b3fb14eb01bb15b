"""Trains a network for a few steps in `fit`, and prints as JSON how long each took.

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
from benchmarks.common import task as task_lib
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import registry
from benchmarks.time_to_loss import training_runs
from helpers import command_line

_OPTIMIZER = flags.DEFINE_enum("optimizer", "newton", ["newton", "adam"], "What trains.")
_JIT = flags.DEFINE_enum("jit_compile", "auto", ["auto", "true", "false"], "Its `jit_compile`.")
_TASK = flags.DEFINE_enum(
    "task", None, list(registry.ENTRIES), "What is trained; by default an autoencoder."
)
_QUICK = flags.DEFINE_bool("quick", False, "The task with few rows and small widths.")
_WIDTHS = flags.DEFINE_list("widths", ["12", "8", "4"], "Pixels, and widths down to the code.")
_ROWS = flags.DEFINE_integer("rows", 16, "Rows of the autoencoder's batch.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 3, "Steps to take.", lower_bound=2)
_MODELS = flags.DEFINE_integer("models", 1, "Models of the same kind, in turn.", lower_bound=1)
_NEWTON = flags.DEFINE_string("newton", "", "Other arguments of our optimizer.")


class Clock(keras.callbacks.Callback):
    """Takes the time at the end of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads the clock."""
        self.times.append(time.perf_counter())


def trained() -> tuple[task_lib.Task, int]:
    """Returns what is trained, and the rows of a batch."""
    if _TASK.value is not None:
        entry = registry.ENTRIES[_TASK.value](entry_lib.Form(_QUICK.value))
        return entry.task, entry.newton_rows
    widths = command_line.positive_integers("widths", _WIDTHS.value, least=2)
    images = deep_autoencoder.batch(widths, _ROWS.value).numpy()
    task = task_lib.Task(
        "deep_autoencoder", images, images, lambda seed: deep_autoencoder.build(widths)
    )
    return task, _ROWS.value


def compiled_model(task: task_lib.Task) -> keras.Model:
    """Returns the task's network, ready to train."""
    jit: bool | str = "auto" if _JIT.value == "auto" else _JIT.value == "true"
    model = task.build(0)
    if _OPTIMIZER.value == "adam":
        model.compile(keras.optimizers.Adam(), task.loss, jit_compile=jit)
    else:
        optimizer = newton_options.optimizer("newton", _NEWTON.value, jit_compile=jit)
        model.compile(optimizer, task.loss)
    return model


def main(argv: Sequence[str]) -> None:
    """Trains and prints."""
    command_line.refuse_arguments(argv)
    task, size = trained()
    data = training_runs.batches(task, size, seed=0)
    seconds = []
    for _ in range(_MODELS.value):
        model, clock = compiled_model(task), Clock()
        start = time.perf_counter()
        model.fit(data, steps_per_epoch=_STEPS.value, verbose=0, shuffle=False, callbacks=[clock])
        times = [start, *clock.times]
        seconds.append([after - before for before, after in itertools.pairwise(times)])
    print(json.dumps({"parameters": model.count_params(), "seconds": seconds}))


if __name__ == "__main__":
    app.run(main)
