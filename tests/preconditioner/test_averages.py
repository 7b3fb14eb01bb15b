"""Averages of gradients, their basis, and the direction that they give."""

import keras
import numpy as np
import tensorflow as tf

from keras_sfn.newton import lengths
from keras_sfn.objective import parameter_space
from keras_sfn.preconditioner import averages, kronecker


def made(*shapes):
    variables = [keras.Variable(np.zeros(shape, "float32")) for shape in shapes]
    created = []

    def add_variable(shape, initializer="zeros", *, dtype, name, aggregation):
        created.append(keras.Variable(initializer, shape, dtype, trainable=False, name=name))
        return created[-1]

    return averages.Averages(variables, "float32", add_variable), variables, created


def test_the_first_direction_is_the_sign_of_the_gradient():
    state, _, _ = made((3, 2))
    gradient = tf.constant([1.0, -2.0, 3.0, 4.0, -5.0, 6.0])
    values = averages.following(state.blocks, state.read(), gradient)
    np.testing.assert_allclose(values.direction, -np.sign(gradient), rtol=1e-4)


def test_gradients_that_are_zero_give_no_direction():
    state, _, _ = made((3, 2), (4,))
    values = averages.following(state.blocks, state.read(), tf.zeros((10,)))
    np.testing.assert_array_equal(values.direction, np.zeros(10))


def test_in_the_basis_of_the_gradients_one_of_rank_one_has_one_coordinate():
    state, _, _ = made((3, 2))
    gradient = tf.constant(np.outer([1.0, 2.0, 2.0], [3.0, 4.0]).ravel(), tf.float32)
    values = averages.following(state.blocks, state.read(), gradient)
    state.keep(values)
    values = state.read()
    second = averages.following(state.blocks, values, gradient)
    # Along the gradient itself, where the elementwise direction was (-1, ..., -1).
    cosine = np.dot(second.direction, gradient) / np.linalg.norm(second.direction)
    np.testing.assert_allclose(cosine, -np.linalg.norm(gradient), rtol=1e-3)


def test_a_mean_stays_the_same_vector_in_a_new_basis():
    state, _, _ = made((3, 2), (5,))
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(6, 11)).astype("float32")
    values, mean = state.read(), np.zeros(11)
    for gradient in gradients:
        state.keep(averages.following(state.blocks, values, tf.constant(gradient)))
        values = state.read()
        mean = 0.9 * mean + 0.1 * gradient
    found = kronecker.rotated_back(state.blocks, values.eigenvectors, values.mean)
    np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-6)


def test_products_are_of_all_gradients_at_first_and_of_one_in_four_later():
    state, _, _ = made((3, 2))
    values, changed = state.read(), []
    for index in range(18):
        gradient = tf.constant(np.random.default_rng(index).normal(size=6), tf.float32)
        before, values = values, averages.following(state.blocks, values, gradient)
        changed.append(not np.array_equal(before.products, values.products))
    assert changed == [*10 * [True], False, True, *3 * [False], True, *2 * [False]]


def test_what_is_kept_is_read():
    state, variables, created = made((3, 2))
    gradient = tf.constant([1.0, -2.0, 3.0, 4.0, -5.0, 6.0])
    state.keep(averages.following(state.blocks, state.read(), gradient))
    values = state.read()
    assert float(values.count) == 1
    mean = kronecker.rotated_back(state.blocks, values.eigenvectors, values.mean)
    np.testing.assert_allclose(mean, 0.1 * gradient, rtol=1e-5)
    held = sum(int(np.prod(variable.shape)) for variable in created)
    assert held <= averages.held_numbers(variables)


def test_the_mean_point_is_of_the_last_points_and_leaves_runaways_out():
    state, _, _ = made((2,))
    values = state.read()
    for step, (here, away) in enumerate([(1.0, False), (3.0, False), (99.0, True)], start=1):
        length = lengths.State(*map(tf.constant, lengths.INITIAL))._replace(steps=float(step))
        point = averages.mean_point(values, tf.fill((2,), here), length, tf.constant(away))
        values = values._replace(mean_point=point)
    np.testing.assert_allclose(values.mean_point, [2.0, 2.0])


def test_a_step_that_is_not_taken_leaves_the_averages():
    state, _, _ = made((3, 2))
    state.keep(averages.following(state.blocks, state.read(), tf.ones((6,))))
    before = state.read()
    after = averages.following(state.blocks, before, tf.fill((6,), float("nan")))
    for one, other in zip(
        tf.nest.flatten(averages.chosen(tf.constant(False), after, before)),
        tf.nest.flatten(before),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_training_ends_at_the_mean_point_once():
    state, variables, _ = made((2,))
    length = lengths.State(*map(tf.constant, lengths.INITIAL))._replace(gain=0.1, since=300.0)
    state.keep(state.read()._replace(mean_point=tf.fill((2,), 5.0), lengths=tf.stack(length)))
    space = parameter_space.ParameterSpace(variables)
    state.end(space)
    np.testing.assert_array_equal(variables[0], [5.0, 5.0])
    variables[0].assign([6.0, 6.0])
    state.end(space)
    np.testing.assert_array_equal(variables[0], [6.0, 6.0])
