"""Tests for examples/benchmarks/suite/tasks/graph_convolution.py."""

import numpy as np

from benchmarks.suite.tasks import graph_convolution


def test_the_graph_is_symmetric_and_its_largest_eigenvalue_is_one():
    features = np.random.default_rng(0).normal(size=(40, 3))
    graph = graph_convolution.normalised_graph(features)
    np.testing.assert_array_equal(graph, graph.T)
    assert np.linalg.eigvalsh(graph)[-1] == np.float32(1).item() or np.isclose(
        np.linalg.eigvalsh(graph)[-1], 1, atol=1e-5
    )
    # Each node has itself and at least the nearest neighbours.
    assert ((graph > 0).sum(axis=1) >= 9).all()
    nearest = np.argsort(((features - features[0]) ** 2).sum(axis=1))[:9]
    assert (graph[0, nearest] > 0).all()
