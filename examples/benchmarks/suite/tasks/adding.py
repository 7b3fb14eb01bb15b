"""The adding problem: a GRU sums the two marked of 100 numbers."""

from __future__ import annotations

import keras

from benchmarks.common import adding_data
from benchmarks.common import task as task_lib
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import networks


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 1,000 sequences, GRU of 32, batches of all."""
    rows, length, units = (64, 6, 3) if form.quick else (1000, 100, 32)
    task = task_lib.Task(
        "adding",
        *adding_data.sequences(length, rows, seed=0),
        networks.seeded(
            lambda: [
                keras.Input((length, 2)),
                keras.layers.GRU(units),
                keras.layers.Dense(1),
            ]
        ),
    )
    return entry_lib.Entry(task, True, None, (50, 100, 25))
