"""A convolutional classifier of images with dropout, by logits."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from benchmarks.common import task as task_lib
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import images, networks


def _layers(shape: tuple[int, ...], width: int) -> Sequence[keras.layers.Layer]:
    convolution = {"kernel_size": 3, "padding": "same", "activation": "relu"}
    return [
        keras.Input(shape),
        keras.layers.Conv2D(width, **convolution),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(2 * width, **convolution),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(10),
    ]


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 10,000 images, 16 and 32 channels, batches of 1,000."""
    rows, width = (64, 2) if form.quick else (10_000, 16)
    x, y = images.labelled(form, rows)
    task = task_lib.Task(
        "cnn",
        x,
        y,
        networks.seeded(lambda: _layers(x.shape[1:], width)),
        figure="training cross-entropy",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    task = entry_lib.with_training_loss(task)
    return entry_lib.Entry(task, False, 1000, (100, 50, 200))
