"""A network and its training rows, as one process hands them to another. Needs NumPy alone.

What trains in an environment of its own builds the network again, in its library, from what
`describe` found, with the weights of the model that was described.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

# Attributes of a recurrent layer that must have these values, and are no part of `Layer`.
_PLAIN = {
    "return_sequences": False,
    "go_backwards": False,
    "stateful": False,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
}


class Layer(NamedTuple):
    """One layer with all of its biases.

    Attributes:
        kind: "dense", or "simple_rnn", which returns its last output.
        units: Of the layer.
        activation: Its name in Keras.
    """

    kind: str
    units: int
    activation: str


class Training(NamedTuple):
    """A mean squared error to minimise.

    Attributes:
        layers: Of the network.
        residual: Whether the network's output is that of `poisson_network`'s residual.
        weights: Of all layers in Keras's order.
        inputs: Shape (rows, ...).
        targets: Shape (rows, outputs).
    """

    layers: tuple[Layer, ...]
    residual: bool
    weights: tuple[np.ndarray, ...]
    inputs: np.ndarray
    targets: np.ndarray

    @property
    def point(self) -> np.ndarray:
        """All weights as one vector, shape (n,)."""
        return np.concatenate([part.ravel() for part in self.weights])


def describe(layers: Any) -> tuple[Layer, ...]:
    """Returns what Keras's layers are.

    Raises:
        ValueError: One is of a kind, or has a setting, that no peer is told of.
    """
    kinds = {"Dense": "dense", "SimpleRNN": "simple_rnn"}
    found = []
    for layer in layers:
        name, settings = type(layer).__name__, layer.get_config()
        other = [key for key, value in _PLAIN.items() if settings.get(key, value) != value]
        if name not in kinds or other or not settings["use_bias"]:
            raise ValueError(
                "A peer knows Dense and SimpleRNN layers with a bias, and no other settings but "
                f"units and activation. Received: {name}({settings})."
            )
        found.append(Layer(kinds[name], settings["units"], settings["activation"]))
    return tuple(found)


def write(path: pathlib.Path, training: Training) -> None:
    """Writes an .npz file."""
    arrays: dict[str, Any] = {f"weight{i:03}": part for i, part in enumerate(training.weights)}
    if training.targets is not training.inputs:
        arrays["targets"] = training.targets
    network = json.dumps({"layers": training.layers, "residual": training.residual})
    np.savez(path, network=network, inputs=training.inputs, **arrays)


def read(path: pathlib.Path) -> Training:
    """Reads what `write` wrote."""
    with np.load(path) as file:
        network = json.loads(str(file["network"]))
        inputs = file["inputs"]
        return Training(
            layers=tuple(Layer(*layer) for layer in network["layers"]),
            residual=network["residual"],
            weights=tuple(file[name] for name in sorted(file) if name.startswith("weight")),
            inputs=inputs,
            targets=file.get("targets", inputs),
        )
