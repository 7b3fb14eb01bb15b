import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.objective import batches, micro_batches, objective, parameter_space


@pytest.fixture
def space():
    return parameter_space.ParameterSpace([keras.Variable([1.0, 2.0])])


def mean_square(space):
    """Maps rows to the mean square of their products with the parameters, and these products."""

    def loss_of(part):
        def loss_fn():
            product = tf.linalg.matvec(part, space.variables[0].value)
            return tf.reduce_mean(product**2), product

        return loss_fn

    return loss_of


def value(loss):
    return float(loss.loss(loss.space.flatten(loss.space.values())))


def test_whole_spaced_rows_and_parts(space):
    x = tf.constant(np.random.default_rng(0).normal(size=(1030, 2)), tf.float32)
    batch = batches.Batch(x, mean_square(space), space)
    squares = np.square(x.numpy() @ [1, 2])
    assert value(batch.whole()) == pytest.approx(squares.mean(), rel=1e-5)
    assert value(batch.spaced(10)) == pytest.approx(squares[::103].mean(), rel=1e-5)
    # Four parts of 258 rows, which overlap by a row or two.
    assert value(batch.part(tf.constant(3), 4)) == pytest.approx(squares[-258:].mean(), rel=1e-5)


@pytest.mark.parametrize(("share", "taken"), [(16, 1), (4, 2), (1, 5)])
def test_spread_rows_are_from_all_of_the_batch(space, share, taken):
    # Sorted rows: the first part of them tells nothing of the others.
    x = tf.sort(tf.random.stateless_normal((1300, 2), (0, 0)), axis=0)
    batch = batches.Batch(x, mean_square(space), space)
    spread = batch.spread(tf.constant(share))
    point = space.flatten(space.values())
    found = float(spread.over_parts(lambda part: part.loss(point), ()))
    squares = np.square(x.numpy() @ [1, 2])
    rows = [index for index in range(1300) if index % 5 < taken]
    assert found == pytest.approx(squares[rows].mean(), rel=1e-5)


def test_arithmetic_is_counted_for_all_rows(space):
    few, many = (
        batches.Batch(tf.ones((rows, 2)), mean_square(space), space).arithmetic()
        for rows in (10, 1000)
    )
    assert 50 < many / few < 100


def test_in_slices_only_what_has_more_rows(space):
    batch = batches.Batch(tf.ones((6, 2)), mean_square(space), space, slice_rows=4)
    assert isinstance(batch.whole(), micro_batches.MicroBatches)
    assert isinstance(batch.spaced(4), objective.Objective)
    assert value(batch.whole()) == 9
    # The trace is that of a slice.
    assert batch.traced.outputs.shape == (4,)


def test_a_loss_function_is_a_batch_without_rows(space):
    batch = batches.of_function(lambda: tf.reduce_sum(space.variables[0].value), space)
    assert value(batch.whole()) == 3
    assert "only `fit`" in batch.obstacle
    assert batch.traced.outputs is None


def test_a_loss_function_may_give_outputs_too(space):
    product = lambda: tf.reduce_sum(space.variables[0].value)
    batch = batches.of_function(lambda: (product(), {"of": product()[None]}), space)
    assert value(batch.whole()) == 3
    assert batch.traced.outputs["of"].shape == (1,)


@pytest.mark.parametrize("returned", [(1.0,), (1.0, 2.0, 3.0)])
def test_a_loss_function_that_returns_something_else_is_told_of_both_forms(space, returned):
    batch = batches.of_function(lambda: returned, space)
    with pytest.raises(TypeError, match=rf"scalar loss, or the pair.*a tuple of {len(returned)}"):
        value(batch.whole())


def test_a_loss_that_cannot_be_evaluated_on_a_part_is_that_of_all_rows(space):
    def loss_of(part):
        def loss_fn():
            # Three groups of rows: a part of 256 has none.
            first, *_ = tf.split(tf.linalg.matvec(part, space.variables[0].value), 3)
            return tf.reduce_mean(first**2), None

        return loss_fn

    batch = batches.Batch(tf.ones((900, 2)), loss_of, space)
    # Three parts of 300 rows.
    batch.try_part()
    assert batch.obstacle is None
    batch = batches.Batch(tf.ones((600, 2)), loss_of, space)
    batch.try_part()
    assert batch.obstacle is None
    batch = batches.Batch(tf.ones((603, 2)), loss_of, space)
    batch.try_part()
    assert "a part of the rows cannot be evaluated" in batch.obstacle


def test_all_losses_of_a_batch_draw_from_its_seed(space):
    generator = keras.random.SeedGenerator(1)

    def loss_of(part):
        def loss_fn():
            noise = keras.random.uniform((), seed=generator)
            return tf.reduce_sum(space.variables[0].value) * 0 + noise, part

        return loss_fn

    batch = batches.Batch(tf.ones((600, 1)), loss_of, space)
    found = set()
    for seed in (5, 6):
        batch.reseed(tf.constant([seed, 0]))
        losses = (batch.whole(), batch.spaced(3), batch.part(tf.constant(1), 2))
        drawn = {value(loss) for loss in losses}
        assert len(drawn) == 1
        found |= drawn
    assert len(found) == 2


def test_all_losses_of_a_batch_see_the_same_random_numbers_of_python(space):
    loss_of = lambda part: lambda: (tf.reduce_sum(space.variables[0]) * random.random(), part)
    random.seed(0)
    batch = batches.Batch(tf.ones((600, 1)), loss_of, space)
    assert value(batch.whole()) == value(batch.spaced(3)) == value(batch.whole())
