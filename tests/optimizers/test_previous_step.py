import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.objective import parameter_space
from keras_sfn.optimizers import previous_step


@pytest.fixture
def variables():
    return [keras.Variable([1.0, 2.0]), keras.Variable([[3.0]]), keras.Variable([4.0])]


@pytest.fixture
def previous(variables):
    optimizer = keras.optimizers.SGD()
    space = parameter_space.ParameterSpace(variables)
    return previous_step.PreviousStep(space, optimizer.add_variable)


ACCEPTED, REJECTED = tf.constant(True), tf.constant(False)


def test_an_accepted_step_is_kept(previous, variables):
    space = parameter_space.ParameterSpace(variables)
    np.testing.assert_array_equal(previous.read(space), [0, 0, 0, 0])
    previous.keep(space, tf.constant([1.0, 2.0, 3.0, 4.0]), ACCEPTED)
    np.testing.assert_array_equal(previous.read(space), [1, 2, 3, 4])
    previous.keep(space, tf.constant([5.0, 6.0, 7.0, 8.0]), REJECTED)
    np.testing.assert_array_equal(previous.read(space), [1, 2, 3, 4])


def test_a_step_on_some_variables_leaves_the_others(previous, variables):
    whole = parameter_space.ParameterSpace(variables)
    previous.keep(whole, tf.constant([1.0, 2.0, 3.0, 4.0]), ACCEPTED)
    # In an order of their own.
    some = parameter_space.ParameterSpace([variables[2], variables[0]])
    np.testing.assert_array_equal(previous.read(some), [4, 1, 2])
    previous.keep(some, tf.constant([7.0, 5.0, 6.0]), ACCEPTED)
    np.testing.assert_array_equal(previous.read(whole), [5, 6, 3, 7])
    previous.keep(some, tf.constant([0.0, 0.0, 0.0]), REJECTED)
    np.testing.assert_array_equal(previous.read(whole), [5, 6, 3, 7])


def test_all_variables_in_another_order(previous, variables):
    previous.keep(parameter_space.ParameterSpace(variables), tf.range(4.0), ACCEPTED)
    turned = parameter_space.ParameterSpace(variables[::-1])
    np.testing.assert_array_equal(previous.read(turned), [3, 2, 0, 1])
