"""The network in Keras 2, for peers that were written for it, and how to import these.

Their repositories are no packages: a folder is put on the path. Needs the packages `tensorflow`
and `tf_keras`.
"""

from __future__ import annotations

import importlib
import os
import pathlib
import sys
from types import ModuleType
from typing import Any

import numpy as np
import peer_protocol
import tensorflow as tf

# Read when `tf.keras` is first used, which importing TensorFlow does not do.
os.environ["TF_USE_LEGACY_KERAS"] = "1"


def import_from(folder: pathlib.Path, module: str) -> ModuleType:
    """Imports a module that lies in a folder."""
    sys.path.insert(0, str(folder))
    return importlib.import_module(module)


def build_network(problem: peer_protocol.Problem) -> Any:
    """Returns the network; its weights are of its own making, in the problem's order."""
    layers = [tf.keras.layers.Input(problem.inputs.shape[1:])]
    for bias, tanh in zip(problem.biases, problem.tanh, strict=True):
        layers.append(tf.keras.layers.Dense(len(bias), activation="tanh" if tanh else None))
    return tf.keras.Sequential(layers)


def assign(session: Any, training: Any, point: np.ndarray) -> None:
    """Gives the variables of one of hessianlearn's problems the values of a vector.

    Its own training sets first values through these two attributes, for which it has no method.
    """
    session.run(tf.compat.v1.global_variables_initializer())
    feed = {training._assignment_placeholder: point}
    session.run(training._assignment_ops, feed_dict=feed)
