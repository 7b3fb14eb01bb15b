"""A graph convolution: 1,000 digits as nodes, joined to those that look most alike.

Reference:
    Kipf and Welling, Semi-supervised classification with graph convolutional networks, ICLR 2017.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import sklearn.datasets
from keras import ops

from benchmarks.common import task as task_lib
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import networks

_NEIGHBOURS = 8


class Propagation(keras.layers.Layer):
    """Gives each node the mean of itself and its neighbours, weighted by their degrees.

    Args:
        graph: Shape (nodes, nodes): D^-1/2 (A + I) D^-1/2.
    """

    def __init__(self, graph: np.ndarray) -> None:
        super().__init__()
        self._graph = ops.convert_to_tensor(graph)

    def call(self, inputs: Any) -> Any:
        """Returns the means, shape (nodes, features)."""
        return ops.matmul(self._graph, inputs)


def normalised_graph(features: np.ndarray) -> np.ndarray:
    """Returns D^-1/2 (A + I) D^-1/2, float32, where A joins nearest neighbours both ways."""
    squares = (features**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * features @ features.T
    nearest = np.argsort(distances, axis=1)[:, : _NEIGHBOURS + 1]
    joined = np.eye(len(features))
    joined[np.arange(len(features))[:, None], nearest] = 1
    joined = np.maximum(joined, joined.T)
    degrees = joined.sum(axis=1)
    return (joined / np.sqrt(degrees[:, None] * degrees)).astype(np.float32)


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: two convolutions, 64-32-10, relu; all nodes are one batch."""
    nodes, width = (64, 4) if form.quick else (1000, 32)
    digits = sklearn.datasets.load_digits()
    features = digits.data[:nodes].astype(np.float32) / 16
    graph = normalised_graph(features)
    task = task_lib.Task(
        "graph_convolution",
        features,
        digits.target[:nodes].astype(np.int32),
        networks.seeded(
            lambda: [
                keras.Input((64,), batch_size=nodes),
                Propagation(graph),
                keras.layers.Dense(width, activation="relu"),
                Propagation(graph),
                keras.layers.Dense(10),
            ]
        ),
        figure="training cross-entropy",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return entry_lib.Entry(task, True, None, (nodes,))
