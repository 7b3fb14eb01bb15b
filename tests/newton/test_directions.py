import numpy as np
import tensorflow as tf

from keras_sfn.newton import directions


def tf_array(values):
    return tf.constant(values, "float64")


def test_direction_follows_the_formula():
    values, gradient = tf_array([-2.0, 0.5, 3.0]), tf_array([1.0, 2.0, -3.0])
    direction = directions.saddle_free_direction(values, gradient, tf.constant(0.1, "float64"))
    np.testing.assert_allclose(direction, -gradient / (np.abs(values) + 0.1))


def test_definite_curvature_gives_the_newton_step():
    values, gradient = tf_array([0.5, 3.0]), tf_array([2.0, -3.0])
    direction = directions.saddle_free_direction(values, gradient, tf.constant(0.0, "float64"))
    np.testing.assert_allclose(direction, -gradient / values)


def test_large_damping_gives_the_gradient_direction():
    values, gradient = tf_array([-2.0, 0.5, 3.0]), tf_array([1.0, 2.0, -3.0])
    direction = directions.saddle_free_direction(values, gradient, tf.constant(1e9, "float64"))
    np.testing.assert_allclose(1e9 * direction, -gradient, rtol=1e-8)


def test_every_direction_descends():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values, gradient = tf.constant(rng.normal(size=(2, 6)))
        direction = directions.saddle_free_direction(values, gradient, tf_array(abs(rng.normal())))
        assert float(tf.tensordot(gradient, direction, 1)) < 0


def test_directions_without_curvature_or_damping_are_left_out():
    direction = directions.saddle_free_direction(
        tf.constant([0.0, 2.0]), tf.constant([1.0, 1.0]), tf.constant(0.0)
    )
    np.testing.assert_array_equal(direction, [0, -0.5])


def test_predicted_reduction_is_exact_on_a_quadratic():
    values, gradient = tf_array([-2.0, 0.5, 3.0]), tf_array([1.0, 2.0, -3.0])
    z = tf_array([0.3, -1.0, 0.7])
    loss = lambda z: tf.reduce_sum(gradient * z + 0.5 * values * z**2)
    np.testing.assert_allclose(
        directions.predicted_reduction(values, gradient, z), loss(0 * z) - loss(z)
    )


def test_predicted_reduction_of_a_full_step_is_positive():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values, gradient = tf.constant(rng.normal(size=(2, 6)))
        step = directions.saddle_free_direction(values, gradient, tf.constant(0.1, "float64"))
        assert float(directions.predicted_reduction(values, gradient, step)) > 0


def test_damped_newton_goes_up_along_negative_curvature_that_the_damping_does_not_outweigh():
    values = tf.constant([-2.0, -0.05, 0.0, 3.0], "float64")
    gradient = tf.constant([1.0, 1.0, 1.0, 1.0], "float64")
    direction = directions.newton_direction(values, gradient, tf.constant(0.1, "float64"))
    np.testing.assert_allclose(direction, [1 / 1.9, -1 / 0.05, -1 / 0.1, -1 / 3.1])
    ours = directions.saddle_free_direction(values, gradient, tf.constant(0.1, "float64"))
    np.testing.assert_allclose(ours, [-1 / 2.1, -1 / 0.15, -1 / 0.1, -1 / 3.1])


def test_damped_newton_stands_still_where_curvature_and_damping_cancel():
    values = tf.constant([-0.1, 2.0], "float64")
    gradient = tf.constant([1.0, 1.0], "float64")
    direction = directions.newton_direction(values, gradient, tf.constant(0.1, "float64"))
    np.testing.assert_allclose(direction, [0, -1 / 2.1])
