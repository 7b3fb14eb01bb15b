import keras
import numpy as np
import pytest
import tensorflow as tf

from equations import jets, network

POINTS = np.random.default_rng(0).uniform(size=(7, 2))


def test_derivatives_of_a_polynomial():
    field = jets.taped(lambda p: p[:, :1] ** 3 * p[:, 1:] ** 2)
    jet = field(tf.constant(POINTS), first=(1,), second=(0,))
    x, y = POINTS[:, :1], POINTS[:, 1:]
    np.testing.assert_allclose(jet.value, x**3 * y**2)
    np.testing.assert_allclose(jet.first[1], 2 * x**3 * y)
    np.testing.assert_allclose(jet.second[0], 6 * x * y**2)
    assert set(jet.second) == {0}
    assert field(tf.constant(POINTS)).first == {}


def test_derivatives_of_a_function_that_is_linear_are_zero():
    jet = jets.taped(lambda p: p[:, :1] + 1)(tf.constant(POINTS), second=(0, 1))
    np.testing.assert_array_equal(jet.first[0], np.ones((7, 1)))
    np.testing.assert_array_equal(jet.first[1], np.zeros((7, 1)))
    np.testing.assert_array_equal(jet.second[0], np.zeros((7, 1)))


@pytest.mark.parametrize("wanted", [((), ()), ((1,), ()), ((0,), (1,)), ((), (0, 1))])
@pytest.mark.parametrize("initialization", network.INITIALIZATIONS)
def test_the_network_carries_what_tapes_give(wanted, initialization):
    net = network.Network(2, (5, 4), initialization, seed=0, dtype="float64")
    points = tf.constant(POINTS)
    found, expected = net.field(points, *wanted), jets.taped(net)(points, *wanted)
    assert set(found.first) == set(expected.first)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        assert one.dtype == "float64"
        np.testing.assert_allclose(one, other, atol=1e-14)


def test_the_product_rule():
    lift, factor = lambda p: p[:, :1] ** 2, lambda p: keras.ops.sin(p[:, :1] * p[:, 1:])
    inner = lambda p: keras.ops.cos(p[:, :1] + 2 * p[:, 1:])
    whole = jets.taped(lambda p: lift(p) + factor(p) * inner(p))
    points = tf.constant(POINTS)
    wanted = (0,), (1,)
    found = jets.constrained(jets.taped(inner), lift, factor)(points, *wanted)
    expected = whole(points, *wanted)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-14)


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
