import numpy as np
import tensorflow as tf

from equations import jets

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
