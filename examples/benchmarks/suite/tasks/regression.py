"""Regression to high accuracy: a smooth function of ten numbers."""

from __future__ import annotations

import numpy as np

from benchmarks.common import task as task_lib
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import networks


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 20,000 rows, 10-64-64-64-1 silu."""
    rows, widths = (64, [6, 6]) if form.quick else (20_000, [64, 64, 64])
    x = np.random.default_rng(0).uniform(-1, 1, (rows, 10))
    y = np.sin(np.pi * x[:, 0] * x[:, 1]) + 2 * (x[:, 2] - 0.3) ** 2 + x[:, 3]
    y += np.exp(-(x[:, 4] ** 2) - x[:, 5] ** 2) + x[:, 6] * np.cos(2 * x[:, 7])
    task = task_lib.Task(
        "regression",
        x.astype(np.float32),
        y[:, None].astype(np.float32),
        networks.seeded(lambda: networks.dense(10, widths, 1, "silu")),
    )
    return entry_lib.Entry(task, True, None, (200, 100, 500))
