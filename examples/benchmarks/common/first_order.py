"""Keras's first-order optimizers that ours is compared with, each a function of its rate."""

from __future__ import annotations

from collections.abc import Callable

import keras

OPTIMIZERS: dict[str, Callable[[float], keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "muon": keras.optimizers.Muon,
    "lion": keras.optimizers.Lion,
    "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=0.99, nesterov=True),
}
