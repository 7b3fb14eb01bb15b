import numpy as np
import pytest
import tensorflow as tf

from keras_sfn import saddle_free


def tf_array(values):
    return tf.constant(values, "float64")


@pytest.mark.parametrize("on_host", [False, True])
def test_ritz_pairs_match_numpy(symmetric, on_host):
    matrix = symmetric([-4.0, -1.0, 2.0, 7.0])
    pairs = saddle_free.ritz_pairs(tf.constant(matrix), on_host)
    np.testing.assert_allclose(pairs.values, [-4, -1, 2, 7], atol=1e-12)
    np.testing.assert_allclose(
        matrix @ pairs.vectors.numpy(), pairs.vectors.numpy() * pairs.values.numpy(), atol=1e-12
    )
    assert bool(pairs.finite)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_ritz_pairs_of_very_small_and_large_matrices(symmetric, factor):
    matrix = (symmetric([-4.0, -1.0, 2.0, 7.0]) * factor).astype("float32")
    pairs = saddle_free.ritz_pairs(tf.constant(matrix))
    np.testing.assert_allclose(pairs.values / factor, [-4, -1, 2, 7], rtol=1e-5)


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_ritz_pairs_of_a_matrix_that_is_not_finite(bad, on_host):
    pairs = saddle_free.ritz_pairs(tf.constant([[1.0, bad], [bad, 1.0]]), on_host)
    assert not bool(pairs.finite)
    assert np.isfinite(pairs.values).all()


def test_direction_follows_the_formula():
    values, gradient = tf_array([-2.0, 0.5, 3.0]), tf_array([1.0, 2.0, -3.0])
    direction = saddle_free.saddle_free_direction(values, gradient, tf.constant(0.1, "float64"))
    np.testing.assert_allclose(direction, -gradient / (np.abs(values) + 0.1))


def test_definite_curvature_gives_the_newton_step():
    values, gradient = tf_array([0.5, 3.0]), tf_array([2.0, -3.0])
    direction = saddle_free.saddle_free_direction(values, gradient, tf.constant(0.0, "float64"))
    np.testing.assert_allclose(direction, -gradient / values)


def test_large_damping_gives_the_gradient_direction():
    values, gradient = tf_array([-2.0, 0.5, 3.0]), tf_array([1.0, 2.0, -3.0])
    direction = saddle_free.saddle_free_direction(values, gradient, tf.constant(1e9, "float64"))
    np.testing.assert_allclose(1e9 * direction, -gradient, rtol=1e-8)


def test_every_direction_descends():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values, gradient = tf.constant(rng.normal(size=(2, 6)))
        direction = saddle_free.saddle_free_direction(values, gradient, tf_array(abs(rng.normal())))
        assert float(tf.tensordot(gradient, direction, 1)) < 0


def test_directions_without_curvature_or_damping_are_left_out():
    direction = saddle_free.saddle_free_direction(
        tf.constant([0.0, 2.0]), tf.constant([1.0, 1.0]), tf.constant(0.0)
    )
    np.testing.assert_array_equal(direction, [0, -0.5])


def test_predicted_reduction_is_exact_on_a_quadratic():
    values, gradient = tf_array([-2.0, 0.5, 3.0]), tf_array([1.0, 2.0, -3.0])
    z = tf_array([0.3, -1.0, 0.7])
    loss = lambda z: tf.reduce_sum(gradient * z + 0.5 * values * z**2)
    np.testing.assert_allclose(
        saddle_free.predicted_reduction(values, gradient, z), loss(0 * z) - loss(z)
    )


def test_predicted_reduction_of_a_full_step_is_positive():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values, gradient = tf.constant(rng.normal(size=(2, 6)))
        step = saddle_free.saddle_free_direction(values, gradient, tf.constant(0.1, "float64"))
        assert float(saddle_free.predicted_reduction(values, gradient, step)) > 0


def test_damped_newton_goes_up_along_negative_curvature_that_the_damping_does_not_outweigh():
    values = tf.constant([-2.0, -0.05, 0.0, 3.0], "float64")
    gradient = tf.constant([1.0, 1.0, 1.0, 1.0], "float64")
    direction = saddle_free.newton_direction(values, gradient, tf.constant(0.1, "float64"))
    np.testing.assert_allclose(direction, [1 / 1.9, -1 / 0.05, -1 / 0.1, -1 / 3.1])
    ours = saddle_free.saddle_free_direction(values, gradient, tf.constant(0.1, "float64"))
    np.testing.assert_allclose(ours, [-1 / 2.1, -1 / 0.15, -1 / 0.1, -1 / 3.1])


def test_damped_newton_stands_still_where_curvature_and_damping_cancel():
    values = tf.constant([-0.1, 2.0], "float64")
    gradient = tf.constant([1.0, 1.0], "float64")
    direction = saddle_free.newton_direction(values, gradient, tf.constant(0.1, "float64"))
    np.testing.assert_allclose(direction, [0, -1 / 2.1])
