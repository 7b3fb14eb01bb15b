"""A residual by `tf.gradients`, whose points come from outside of the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.backend import second_derivatives


def residual(network, points):
    """u'' + u at the points, as a user writes it with `tf.gradients`."""
    u = network(points)
    slope = tf.gradients(u, points)[0]
    return tf.gradients(slope, points)[0] + u


def by_tapes(network, points):
    with tf.GradientTape() as outer:
        outer.watch(points)
        with tf.GradientTape() as inner:
            inner.watch(points)
            u = network(points)
        slope = inner.gradient(u, points)
    return outer.gradient(slope, points) + u


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_step_on_a_residual_by_gradients_is_that_by_tapes(jit):
    points = tf.reshape(tf.linspace(-1.0, 1.0, 12), (12, 1))
    losses = []
    for derivative in (by_tapes, residual):
        keras.utils.set_random_seed(0)
        network = keras.Sequential(
            [keras.Input((1,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
        )
        optimizer = keras_sfn.SaddleFreeNewton(krylov_dimension=3, jit_compile=jit)

        @tf.function
        def step(points, network=network, optimizer=optimizer, derivative=derivative):
            return optimizer.minimize(
                lambda: tf.reduce_mean((derivative(network, points) - 1) ** 2),
                network.trainable_variables,
            )

        losses.append([float(step(points)) for _ in range(3)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    assert losses[0][-1] < 0.5 * losses[0][0]


@tf.function
def of_a_capture(x, exact):
    """d(x y)/dx inside a function, with y = x^2 made outside or a number."""
    y = x**2 if exact else tf.constant(2.0)

    @tf.function
    def inside():
        with second_derivatives.exact():
            return tf.gradients(x * y, x)[0]

    return inside()


@pytest.mark.parametrize(
    ("through_outside", "expected"),
    [
        (False, 2.0),  # Only by what comes in.
        (True, 27.0),  # And by x^2, which was made outside of what is differentiated.
    ],
)
def test_a_gradient_is_that_of_tensorflow(through_outside, expected):
    assert float(of_a_capture(tf.constant(3.0), through_outside)) == pytest.approx(expected)


def test_what_has_no_gradient_stays_none():
    @tf.function
    def none(x):
        @tf.function
        def inside():
            with second_derivatives.exact():
                assert tf.gradients(tf.constant(1.0) * 2, x) == [None]
            return x

        return inside()

    assert float(none(tf.constant(1.0))) == 1.0
