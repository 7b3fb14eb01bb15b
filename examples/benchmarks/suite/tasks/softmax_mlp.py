"""A classifier of images by dense layers, with softmax."""

from __future__ import annotations

import keras

from benchmarks.common import task as task_lib
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import images, networks


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 10,000 images, two relu layers of 64, batches of 1,000."""
    x, y = images.labelled(form, 64 if form.quick else 10_000)
    widths = [6] if form.quick else [64, 64]
    x = x.reshape(len(x), -1)
    task = task_lib.Task(
        "softmax_mlp",
        x,
        y,
        networks.seeded(
            lambda: [*networks.dense(x.shape[1], widths, 10, "relu"), keras.layers.Softmax()]
        ),
        figure="training cross-entropy",
        loss="sparse_categorical_crossentropy",
    )
    return entry_lib.Entry(task, False, 1000, (100, 50, 200))
