import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import parameter_space


def make_objective(loss_fn, *variables):
    return objective_lib.Objective(
        lambda: (loss_fn(), None), parameter_space.ParameterSpace(list(variables))
    )


def test_evaluates_at_the_given_point_and_leaves_the_variable():
    v = keras.Variable([1.0, 2.0])
    objective = make_objective(lambda: tf.reduce_sum(v.value**2), v)
    assert float(objective.loss(tf.constant([3.0, 4.0]))) == 25
    np.testing.assert_array_equal(v.numpy(), [1, 2])


def test_gradient():
    v = keras.Variable([1.0, 2.0])
    objective = make_objective(lambda: tf.reduce_sum(v.value**3), v)
    evaluation, gradient = objective.evaluation_and_gradient(tf.constant([1.0, 2.0]))
    assert float(evaluation.loss) == 9
    np.testing.assert_allclose(gradient, [3, 12])


def test_a_variable_that_the_loss_ignores_has_gradient_zero():
    used, unused = keras.Variable([2.0]), keras.Variable([5.0, 5.0])
    objective = make_objective(
        lambda: tf.reduce_sum(used.value + 0 * unused.value[0]), used, unused
    )
    _, gradient = objective.evaluation_and_gradient(tf.constant([2.0, 5.0, 5.0]))
    np.testing.assert_array_equal(gradient, [1, 0, 0])


def test_state_is_frozen_and_its_updates_are_recorded():
    weight, counter = keras.Variable([1.0]), keras.Variable(0.0, trainable=False)

    def loss_fn():
        counter.assign(counter + 1)
        return tf.reduce_sum(weight.value * counter.value)

    objective = make_objective(loss_fn, weight)
    for _ in range(3):
        evaluation = objective.evaluate([tf.constant([2.0])])
        assert float(evaluation.loss) == 2
        [(variable, value)] = evaluation.updates
        assert variable is counter
        assert float(value) == 1
    assert float(counter.value) == 0


def test_dropout_masks_repeat_until_the_seed_moves():
    model = keras.Sequential(
        [keras.Input((50,)), keras.layers.Dense(50), keras.layers.Dropout(0.5)]
    )
    x = tf.ones((4, 50))
    objective = make_objective(
        lambda: tf.reduce_sum(model(x, training=True) ** 2), *model.trainable_variables
    )
    space = objective.space
    point = space.flatten(space.values())
    first = objective.evaluate(space.unflatten(point))
    assert float(objective.loss(point)) == float(first.loss)
    for variable, value in first.updates:
        variable.assign(value)
    assert float(objective.loss(point)) != float(first.loss)


def test_losses_added_by_layers_and_regularizers_count():
    class Penalty(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.sum(x))
            return x

    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, kernel_regularizer="l2"), Penalty()]
    )
    model.compile("sgd", "mse")
    model.layers[0].set_weights([np.array([[2.0]]), np.array([1.0])])
    x, y = tf.ones((3, 1)), tf.zeros((3, 1))

    def loss_fn():
        return model.compute_loss(x, y, model(x, training=True))

    objective = make_objective(loss_fn, *model.trainable_variables)
    point = tf.constant([2.0, 1.0])  # predictions are 3: mse 9, sum 9, l2 0.01 * 2^2
    assert float(objective.loss(point)) == pytest.approx(9 + 9 + 0.04)


@pytest.mark.parametrize(
    ("loss_fn", "message"),
    [
        (lambda v: v.value, r"scalar.*\(2,\)"),
        (lambda v: tf.cast(tf.reduce_sum(v.value), "int32"), "int32"),
        (lambda v: tf.complex(v.value[0], v.value[1]), "complex64"),
        (lambda v: tf.constant(1.0), "depend on the trained variables"),
        (lambda v: tf.stop_gradient(v.value[0]), "depend on the trained variables"),
    ],
)
def test_losses_that_cannot_be_trained_are_refused(loss_fn, message):
    v = keras.Variable([1.0, 2.0])
    objective = make_objective(lambda: loss_fn(v), v)
    with pytest.raises(ValueError, match=message):
        objective.evaluation_and_gradient(tf.constant([1.0, 2.0]))


def test_a_traced_function_that_hides_the_variables_is_refused():
    v = keras.Variable([1.0, 2.0])
    cached = tf.function(lambda: tf.reduce_sum(v.value**2))
    objective = make_objective(lambda: cached(), v)
    objective.loss(tf.constant([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"@tf\.function"):
        objective.loss(tf.constant([3.0, 4.0]))


def test_random_numbers_of_python_and_numpy_repeat_and_then_move_on():
    v = keras.Variable([1.0])
    draw = lambda: tf.reduce_sum(v.value) * (random.random() + np.random.rand())
    first = make_objective(draw, v)
    point = tf.constant([1.0])
    values = [float(first.loss(point)) for _ in range(3)]
    assert values[0] == values[1] == values[2]
    # A step draws once from the user's generators, however often it evaluates.
    assert float(make_objective(draw, v).loss(point)) != values[0]
    random.seed(5)
    np.random.seed(5)
    make_objective(draw, v).loss(point)
    following = random.random(), np.random.rand()
    random.seed(5)
    np.random.seed(5)
    objective = make_objective(draw, v)
    objective.loss(point)
    objective.loss(point)
    assert (random.random(), np.random.rand()) == following


def test_what_stop_gradient_stops_is_constant_once_held():
    """The gradient is then the derivative of the loss that later evaluations give."""
    v = keras.Variable([3.0])
    objective = make_objective(lambda: tf.reduce_sum(v.value * tf.stop_gradient(v.value)), v)
    at, beside = tf.constant([3.0]), tf.constant([4.0])
    assert float(objective.loss(beside)) == 16
    _, gradient = objective.evaluation_and_gradient(at, hold_constants=True)
    np.testing.assert_array_equal(gradient, [3])
    assert float(objective.loss(beside)) == 12
    np.testing.assert_array_equal(objective.gradient(beside), [3])


def test_a_new_seed_rules_the_generators_whose_states_move_as_without():
    generators = [keras.random.SeedGenerator(seed) for seed in (5, 6)]
    x = keras.Variable([1.0, 2.0])

    def loss_fn():
        # The second generator twice, and first.
        drawn = [keras.random.normal((2,), seed=generators[i]) for i in (1, 0, 1)]
        return tf.reduce_sum(x.value * sum(drawn)), tf.stack(drawn)

    space = parameter_space.ParameterSpace([x])
    objective = objective_lib.Objective(loss_fn, space)
    before = objective.evaluate([x.value])
    assert objective.seed_generators == [generators[1].state, generators[0].state]
    np.testing.assert_allclose(before.outputs, _stateless([(6, 0), (5, 0), (6, 1)]))
    seeded = objective_lib.Objective(loss_fn, space, seed=tf.constant([100, 2048], "int64"))
    for _ in range(2):
        after = seeded.evaluate([x.value])
        np.testing.assert_allclose(
            after.outputs, _stateless([(100, 2048), (101, 2048), (100, 2049)])
        )
        moved = {id(v): value.numpy().tolist() for v, value in after.updates}
        assert moved == {id(generators[0].state): [5, 1], id(generators[1].state): [6, 2]}


def _stateless(seeds):
    return tf.stack([tf.random.stateless_normal((2,), seed) for seed in seeds])
