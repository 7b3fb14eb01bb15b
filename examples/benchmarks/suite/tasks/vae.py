"""A variational autoencoder of scikit-learn's digits.

Reference:
    Kingma and Welling, Auto-encoding variational Bayes, ICLR 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import sklearn.datasets
from keras import ops

from benchmarks.common import task as task_lib
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import networks


class Sampling(keras.layers.Layer):
    """Draws the code, and adds its divergence from the normal distribution to the loss.

    Args:
        pixels: Of an image; the loss is one of a pixel.
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self._pixels = pixels
        self._seed = keras.random.SeedGenerator()

    def call(self, inputs: Any) -> Any:
        """Returns codes, half as wide as the means and logarithms of variances that come in."""
        mean, log_variance = ops.split(inputs, 2, axis=-1)
        divergence = (ops.exp(log_variance) + mean**2 - 1 - log_variance) / 2
        self.add_loss(ops.mean(ops.sum(divergence, axis=-1)) / self._pixels)
        noise = keras.random.normal(ops.shape(mean), seed=self._seed)
        return mean + ops.exp(log_variance / 2) * noise


def _layers(width: int, code: int) -> Sequence[keras.layers.Layer]:
    encoder = networks.dense(64, [width], 2 * code, "tanh")
    return [*encoder, Sampling(64), *networks.dense(code, [width], 64, "tanh")[1:]]


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 64-128-6-128-64 tanh, logits of the pixels, batches of all 1,797."""
    rows, sizes = (64, (6, 2)) if form.quick else (None, (128, 6))
    pixels = sklearn.datasets.load_digits().data[:rows].astype(np.float32) / 16
    task = task_lib.Task(
        "vae",
        pixels,
        pixels,
        networks.seeded(lambda: _layers(*sizes)),
        figure="negative evidence bound a pixel",
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return entry_lib.Entry(task, False, None, (128, 64, 256))
