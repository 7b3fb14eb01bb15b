"""A small residual network with batch normalisation.

Reference:
    He et al., Deep residual learning for image recognition, CVPR 2016.
"""

from __future__ import annotations

from typing import Any

import keras

from benchmarks.common import task as task_lib
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import images


def _normalised(x: Any, channels: int, size: int, stride: int) -> Any:
    x = keras.layers.Conv2D(channels, size, stride, padding="same", use_bias=False)(x)
    return keras.layers.BatchNormalization()(x)


def _block(x: Any, channels: int, stride: int) -> Any:
    inner = keras.layers.ReLU()(_normalised(x, channels, 3, stride))
    inner = _normalised(inner, channels, 3, 1)
    if stride > 1:
        x = _normalised(x, channels, 1, stride)
    return keras.layers.ReLU()(inner + x)


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 5,000 images, three blocks of 8, 16 and 32 channels, batches of 500."""
    rows, width = (64, 2) if form.quick else (5000, 8)
    x, y = images.labelled(form, rows)

    def build(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(x.shape[1:])
        hidden = keras.layers.ReLU()(_normalised(inputs, width, 3, 1))
        for block in range(1 if form.quick else 3):
            hidden = _block(hidden, width * 2**block, 1 if block == 0 else 2)
        pooled = keras.layers.GlobalAveragePooling2D()(hidden)
        return keras.Model(inputs, keras.layers.Dense(10)(pooled))

    task = task_lib.Task(
        "resnet",
        x,
        y,
        build,
        figure="training cross-entropy",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    task = entry_lib.with_training_loss(task)
    return entry_lib.Entry(task, False, 500, (100, 50, 250), steps_at_once=2)
