import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.optimizers import dropout_seed


@pytest.fixture
def seed():
    return new_seed()


def new_seed():
    return dropout_seed.DropoutSeed(keras.optimizers.SGD().add_variable)


def state_of(number):
    return [keras.random.SeedGenerator(number).state]


def test_draws_follow_from_the_first_seed_and_the_number_of_the_step(seed):
    generators = state_of(7)
    at = lambda step: seed.of_step(generators, tf.constant(step)).numpy().tolist()
    first, second = at(0), at(1)
    assert first != second
    # Whatever was drawn meanwhile.
    generators[0].assign([9, 9])
    assert [at(0), at(1)] == [first, second]


def test_the_seed_of_the_layer_counts():
    first = lambda number: new_seed().of_step(state_of(number), tf.constant(0)).numpy()
    np.testing.assert_array_equal(first(7), first(7))
    assert (first(7) != first(8)).any()


def test_what_was_remembered_goes_before_a_new_generator(seed):
    remembered = seed.of_step(state_of(7), tf.constant(3))
    np.testing.assert_array_equal(seed.of_step(state_of(8), tf.constant(3)), remembered)


def test_without_generators_there_is_nothing_to_do(seed):
    assert seed.of_step([], tf.constant(0)) is None
