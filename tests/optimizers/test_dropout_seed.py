import keras
import pytest
import tensorflow as tf

from keras_sfn.objective import objective, parameter_space
from keras_sfn.optimizers import dropout_seed


@pytest.fixture
def seed():
    return dropout_seed.DropoutSeed(keras.optimizers.SGD().add_variable)


def loss_of(generator):
    variable = keras.Variable([1.0, 2.0])

    def loss_fn():
        noise = keras.random.normal((2,), seed=generator)
        return tf.reduce_sum(tf.convert_to_tensor(variable) ** 2 * noise), None

    loss = objective.Objective(loss_fn, parameter_space.ParameterSpace([variable]))
    # The first evaluation finds the generators.
    value(loss)
    return loss


def value(loss):
    return float(loss.loss(tf.constant([1.0, 2.0])))


def test_draws_follow_from_the_first_seed_and_the_number_of_the_step(seed):
    loss = loss_of(keras.random.SeedGenerator(7))

    def at(step):
        seed.set(loss, (), tf.constant(step))
        return value(loss)

    first, second = at(0), at(1)
    assert first != second
    # Whatever was drawn meanwhile.
    assert (at(0), at(1)) == (first, second)


def test_the_seed_of_the_layer_counts(seed):
    def first(number):
        loss = loss_of(keras.random.SeedGenerator(number))
        own = dropout_seed.DropoutSeed(keras.optimizers.SGD().add_variable)
        own.set(loss, (), tf.constant(0))
        return value(loss)

    assert first(7) == first(7)
    assert first(7) != first(8)


def test_what_was_remembered_goes_before_a_new_generator(seed):
    loss = loss_of(keras.random.SeedGenerator(7))
    seed.set(loss, (), tf.constant(3))
    other = loss_of(keras.random.SeedGenerator(8))
    seed.set(other, (), tf.constant(3))
    assert value(other) == value(loss)


def test_without_generators_there_is_nothing_to_do(seed):
    variable = keras.Variable([1.0])
    loss_fn = lambda: (tf.reduce_sum(tf.convert_to_tensor(variable) ** 2), None)
    loss = objective.Objective(loss_fn, parameter_space.ParameterSpace([variable]))
    float(loss.loss(tf.constant([2.0])))
    seed.set(loss, (), tf.constant(0))
    assert float(loss.loss(tf.constant([2.0]))) == 4


def test_others_of_the_model_draw_the_same(seed):
    loss, other = (loss_of(keras.random.SeedGenerator(number)) for number in (7, 8))
    seed.set(loss, (None, other), tf.constant(3))
    assert value(other) == value(loss)
