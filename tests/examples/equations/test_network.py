import numpy as np
import pytest
import tensorflow as tf

from equations import network


def test_values_are_those_of_tanh_layers():
    net = network.Network(2, (5, 4), "pytorch", seed=0, dtype="float64")
    points = np.random.default_rng(0).uniform(size=(7, 2))
    expected = points
    weights = [w.numpy() for w in net.trainable_variables]
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        expected = np.tanh(expected @ kernel + bias)
    expected = expected @ weights[-2] + weights[-1]
    found = net(tf.constant(points))
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_initial_weights():
    net = network.Network(2, (400,), "pytorch", seed=0, dtype="float32")
    kernel, bias, last, _ = (w.numpy() for w in net.trainable_variables)
    assert 0.9 * 2**-0.5 < abs(kernel).max() <= 2**-0.5
    assert 0.9 * 2**-0.5 < abs(bias).max() <= 2**-0.5
    assert 0.9 / 20 < abs(last).max() <= 1 / 20
    again = network.Network(2, (400,), "pytorch", seed=0, dtype="float32")
    np.testing.assert_array_equal(again.trainable_variables[0].numpy(), kernel)
    normal = network.Network(2, (400,), "xavier", seed=0, dtype="float32").trainable_variables
    assert normal[0].numpy().std() == pytest.approx((2 / 402) ** 0.5, rel=0.1)
    np.testing.assert_array_equal(normal[1].numpy(), np.zeros(400))
