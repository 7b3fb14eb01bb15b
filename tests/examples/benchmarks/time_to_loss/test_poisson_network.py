"""Tests for examples/benchmarks/time_to_loss/poisson_network.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.time_to_loss import poisson_network

pytestmark = pytest.mark.usefixtures("float64")


def network_with_weights(hidden=(7, 5)):
    """Biases start at zero; here they are not."""
    network = poisson_network.PoissonNetwork(hidden)
    rng = np.random.default_rng(1)
    network.set_weights([rng.normal(size=w.shape) for w in network.get_weights()])
    return network


def laplacian_by_tapes(function, points):
    points = tf.constant(points)
    total = 0.0
    for axis in range(2):
        with tf.GradientTape() as outer:
            outer.watch(points)
            with tf.GradientTape() as inner:
                inner.watch(points)
                value = function(points)
            first = inner.gradient(value, points)[:, axis]
        total += outer.gradient(first, points)[:, axis]
    return total.numpy()[:, None]


def test_the_laplacian_is_that_of_two_tapes():
    network, points = network_with_weights(), poisson_network.interior_points(9, seed=0)
    expected = laplacian_by_tapes(network.solution, points)
    np.testing.assert_allclose(network.laplacian(tf.constant(points)), expected, rtol=1e-9)


def test_the_output_is_the_residual_of_the_exact_solutions_equation():
    network, points = network_with_weights(), poisson_network.interior_points(9, seed=0)
    right_side = laplacian_by_tapes(poisson_network.exact_solution, points)
    expected = laplacian_by_tapes(network.solution, points) - right_side
    assert abs(right_side).max() > 10
    np.testing.assert_allclose(network(points), expected, rtol=1e-9)


def test_the_solution_vanishes_on_the_edge_and_not_inside():
    network = network_with_weights()
    edge = np.array([[0, 0.3], [1, 0.3], [0.3, 0], [0.3, 1]])
    np.testing.assert_array_equal(network.solution(tf.constant(edge)), np.zeros((4, 1)))
    inside = network.solution(tf.constant([[0.3, 0.4]], tf.float64))
    assert abs(inside.numpy().item()) > 1e-3


def test_the_exact_solution_vanishes_on_the_edge_too():
    edge = np.array([[0, 0.3], [1, 0.3], [0.3, 0], [0.3, 1]])
    np.testing.assert_allclose(poisson_network.exact_solution(edge), np.zeros((4, 1)), atol=1e-15)


class ExactNetwork(poisson_network.PoissonNetwork):
    """Answers with the exact solution, scaled."""

    factor = 1.0

    def solution(self, points):
        return self.factor * poisson_network.exact_solution(points)


@pytest.mark.parametrize("factor", [1.0, 0.0, 1.5])
def test_the_error_is_relative_to_the_exact_solution(factor):
    network = ExactNetwork((3,))
    network.factor = factor
    assert poisson_network.relative_error(network) == pytest.approx(abs(factor - 1))


def test_points_are_inside_and_the_same_for_a_seed():
    points = poisson_network.interior_points(100, seed=3)
    assert points.shape == (100, 2)
    assert points.min() > 0
    assert points.max() < 1
    np.testing.assert_array_equal(points, poisson_network.interior_points(100, seed=3))
    assert not np.array_equal(points, poisson_network.interior_points(100, seed=4))


def test_all_of_it_is_float64_and_the_loss_too():
    network = poisson_network.PoissonNetwork((3,))
    network.compile("sgd", "mse")
    points = tf.constant(poisson_network.interior_points(4, seed=0))
    assert network(points).dtype == tf.float64
    zeros = tf.zeros((4, 1), tf.float64)
    assert network.compute_loss(points, zeros, network(points)).dtype == tf.float64
    assert {keras.backend.standardize_dtype(w.dtype) for w in network.weights} == {"float64"}
