"""The network of `autoencoder.py` and its initialisations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

INITIALIZERS = ("glorot_uniform", "sparse")


class Sparse(keras.initializers.Initializer):
    """A few normal weights into each unit, zeros elsewhere.

    Every unit then has inputs of the same size whatever the width of the layer before, and units
    differ from each other in what they see. Martens, Deep learning via Hessian-free optimization,
    ICML 2010.

    Args:
        seed: Of the weights and of their places.
        count: Weights that are not zero, into each unit.
        stddev: Their standard deviation.
    """

    def __init__(self, seed: int, count: int = 15, stddev: float = 1.0) -> None:
        self.seed = seed
        self.count = count
        self.stddev = stddev

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Returns a kernel of shape (inputs, units)."""
        inputs, units = shape
        count = min(self.count, inputs)
        generator = np.random.default_rng(self.seed)
        kernel = np.zeros((inputs, units))
        for unit in range(units):
            places = generator.choice(inputs, count, replace=False)
            kernel[places, unit] = generator.normal(scale=self.stddev, size=count)
        return keras.ops.convert_to_tensor(kernel, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {"seed": self.seed, "count": self.count, "stddev": self.stddev}


def build_autoencoder(
    pixels: int,
    hidden: Sequence[int],
    activation: str,
    initializer: str,
    seed: int,
    output_activation: str | None = None,
) -> keras.Model:
    """Returns pixels -> hidden[0] -> ... -> hidden[-1] (linear code) -> ... -> pixels.

    Args:
        pixels: Width of input and output.
        hidden: Widths down to the code.
        activation: Of all hidden layers but the code.
        initializer: One of `INITIALIZERS`.
        seed: Of the weights.
        output_activation: Of the last layer; None for a linear one.
    """
    keras.utils.set_random_seed(seed)
    *widths, code = hidden
    layers: list[tuple[int, str | None, str | None]]
    layers = [(width, activation, None) for width in widths]
    layers += [(code, None, "code")]
    layers += [(width, activation, None) for width in reversed(widths)]
    layers += [(pixels, output_activation, None)]
    model = keras.Sequential([keras.Input((pixels,))])
    for index, (width, function, name) in enumerate(layers):
        kernel = Sparse(len(layers) * seed + index) if initializer == "sparse" else initializer
        model.add(
            keras.layers.Dense(width, activation=function, kernel_initializer=kernel, name=name)
        )
    return model
