"""Networks in Keras 2, for peers that were written for it, and how to import these.

Their repositories are no packages: a folder is put on the path. Needs the packages `tensorflow`,
which brings Keras 3, and `tf_keras`.
"""

from __future__ import annotations

import importlib
import os
import pathlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.peers import protocol, training_file

# Read when `tf.keras` is first used, which importing TensorFlow does not do.
os.environ["TF_USE_LEGACY_KERAS"] = "1"


def import_from(folder: pathlib.Path, module: str) -> ModuleType:
    """Imports a module that lies in a folder."""
    sys.path.insert(0, str(folder))
    return importlib.import_module(module)


def layers_of(problem: protocol.Problem) -> list[training_file.Layer]:
    """Returns the layers of a problem."""
    return [
        training_file.Layer("dense", len(bias), "tanh" if tanh else "linear")
        for bias, tanh in zip(problem.biases, problem.tanh, strict=True)
    ]


def build_network(
    inputs: np.ndarray, layers: Sequence[training_file.Layer], residual: bool = False
) -> Any:
    """Returns the network; its weights are of its own making.

    Args:
        inputs: Shape (rows, ...), in the precision to compute in.
        layers: Of the network.
        residual: Whether its output is that of `poisson_network`'s residual.
    """
    network = tf.keras.Sequential([tf.keras.layers.Input(inputs.shape[1:], dtype=inputs.dtype)])
    stack = [_KINDS[kind](units, activation, inputs.dtype) for kind, units, activation in layers]
    for layer in [_residual_layer(stack, inputs.dtype)] if residual else stack:
        network.add(layer)
    return network


_KINDS = {
    "dense": lambda units, activation, dtype: tf.keras.layers.Dense(
        units, activation=activation, dtype=dtype
    ),
    # A loop has no second derivative in graphs of TensorFlow 1.
    "simple_rnn": lambda units, activation, dtype: tf.keras.layers.SimpleRNN(
        units, activation=activation, unroll=True, dtype=dtype
    ),
}


def _residual_layer(stack: Sequence[Any], dtype: Any) -> Any:
    from benchmarks.time_to_loss import poisson_network

    class Residual(tf.keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self._stack = list(stack)
            for layer in self._stack:
                layer.build(shape)
                shape = layer.compute_output_shape(shape)
            self.built = True

        def call(self, points: Any) -> Any:
            pairs = [(layer.kernel, layer.bias) for layer in self._stack]
            return poisson_network.residuals(points, pairs)

    return Residual(dtype=dtype)


def assign(session: Any, training: Any, point: np.ndarray) -> None:
    """Gives the variables of one of hessianlearn's problems the values of a vector.

    Its own training sets first values through these two attributes, for which it has no method.
    """
    session.run(tf.compat.v1.global_variables_initializer())
    feed = {training._assignment_placeholder: point}
    session.run(training._assignment_ops, feed_dict=feed)
