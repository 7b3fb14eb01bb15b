"""Networks that several tasks of the suite build."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras


def seeded(layers: Callable[[], Sequence[keras.layers.Layer]]) -> Callable[[int], keras.Model]:
    """Returns a function that maps a seed to a `Sequential` of the layers made under it."""

    def build(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        return keras.Sequential(list(layers()))

    return build


def dense(
    inputs: int, widths: Sequence[int], outputs: int, activation: str
) -> list[keras.layers.Layer]:
    """Returns inputs -> widths[0] -> ... -> widths[-1] -> outputs; the last layer is linear."""
    hidden = [keras.layers.Dense(width, activation=activation) for width in widths]
    return [keras.Input((inputs,)), *hidden, keras.layers.Dense(outputs)]
