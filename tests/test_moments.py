import threading

import numpy as np
import pytest
import tensorflow as tf

from keras_sfn import moments


def second_derivative(x, axes):
    """Derivative of d variance / dx along ones: zero, since a shift leaves the variance."""
    x = tf.constant(x)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            _, variance = tf.nn.moments(x, axes)
        gradient = inner.gradient(variance, x)
    return outer.gradient(gradient, x).numpy()


def test_tensorflow_own_moments_lose_a_part_and_exact_ones_do_not():
    x = np.random.default_rng(0).normal(size=(6, 2))
    assert np.abs(second_derivative(x, [0])).min() > 0.1
    with moments.exact():
        np.testing.assert_allclose(second_derivative(x, [0]), 0, atol=1e-12)
    assert np.abs(second_derivative(x, [0])).min() > 0.1


@pytest.mark.parametrize("axes", [[0], [1], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_values_are_those_of_tensorflow(axes, keepdims, dtype):
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 3, 5)), dtype)
    expected = tf.nn.moments(x, axes, keepdims=keepdims)
    with moments.exact():
        got = tf.nn.moments(x, axes, keepdims=keepdims)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(ours, theirs)


def test_other_threads_keep_tensorflow_own():
    x, seen = np.random.default_rng(0).normal(size=(6, 2)), []
    with moments.exact():
        thread = threading.Thread(target=lambda: seen.append(second_derivative(x, [0])))
        thread.start()
        thread.join()
    assert np.abs(seen[0]).min() > 0.1


def test_nesting_and_errors_leave_the_switch_as_it_was():
    x = np.random.default_rng(0).normal(size=(6, 2))
    with moments.exact():
        with pytest.raises(ZeroDivisionError), moments.exact():
            raise ZeroDivisionError
        np.testing.assert_allclose(second_derivative(x, [0]), 0, atol=1e-12)
    assert np.abs(second_derivative(x, [0])).min() > 0.1


def test_installing_twice_wraps_once():
    wrapped = tf.nn.moments
    moments.install()
    assert tf.nn.moments is wrapped
