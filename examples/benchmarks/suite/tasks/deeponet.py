"""A DeepONet: from samples of a function to its integral at a place, by a dot product.

Reference:
    Lu et al., Learning nonlinear operators via DeepONet, Nature Machine Intelligence 3, 2021.
"""

from __future__ import annotations

import keras
import numpy as np

from benchmarks.common import task as task_lib
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import networks

_SENSORS = 50
_WAVES = 8


def _data(rows: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Returns samples of cosine series, places in 0..1, and the integrals from 0 to these."""
    rng = np.random.default_rng(0)
    waves = np.pi * np.arange(1, _WAVES + 1)
    weights = rng.normal(size=(rows, _WAVES)) / np.sqrt(np.arange(1, _WAVES + 1))
    places = rng.uniform(size=(rows, 1))
    samples = weights @ np.cos(waves[:, None] * np.linspace(0, 1, _SENSORS))
    integrals = (weights * np.sin(waves * places) / waves).sum(axis=1, keepdims=True)
    inputs = samples.astype(np.float32), places.astype(np.float32)
    return inputs, (10 * integrals).astype(np.float32)


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 8,000 rows, branch 50-40-40-40 and trunk 1-40-40-40, tanh."""
    rows, width = (64, 6) if form.quick else (8000, 40)

    def build(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        branch, trunk = (
            keras.Sequential(networks.dense(size, [width, width], width, "tanh"))
            for size in (_SENSORS, 1)
        )
        inputs = keras.Input((_SENSORS,)), keras.Input((1,))
        product = keras.layers.Dot(axes=1)([branch(inputs[0]), trunk(inputs[1])])
        return keras.Model(inputs, product)

    task = task_lib.Task("deeponet", *_data(rows), build)
    return entry_lib.Entry(task, True, None, (200, 100, 500))
