"""Tests for examples/benchmarks/time_to_loss/lbfgs.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.common import task as task_lib
from benchmarks.time_to_loss import lbfgs, tasks, training_runs


def small_task(error=None):
    task = tasks.digits_autoencoder((6,), rows=40)
    return task_lib.Task("small", task.inputs, task.targets, task.build, error=error)


def test_value_and_gradient_are_those_of_keras():
    task = small_task()
    model = task.build(3)
    objective = lbfgs.Objective(task, model)
    value, gradient = objective.value_and_gradient(objective.start())
    model.compile(keras.optimizers.SGD(1.0), "mse")
    before = np.concatenate([w.ravel() for w in model.get_weights()])
    assert float(value) == pytest.approx(model.train_on_batch(task.inputs, task.targets), rel=1e-5)
    after = np.concatenate([w.ravel() for w in model.get_weights()])
    np.testing.assert_allclose(gradient, before - after, atol=1e-6)


def test_a_point_goes_into_the_network():
    task = small_task()
    objective = lbfgs.Objective(task, task.build(0))
    point = tf.random.normal(objective.start().shape, seed=1)
    objective.assign(point)
    np.testing.assert_array_equal(objective.start(), point)


@pytest.mark.parametrize("xla", [False, True])
def test_iterations_go_on_from_where_they_were(xla):
    task = small_task()
    objective = lbfgs.Objective(task, task.build(0))
    minimizer = lbfgs.Minimizer(objective, memory=5, xla=xla)
    state = minimizer.begin(objective.start(), 1.0)
    begun = state.loss
    at_once, in_parts = minimizer.go_on(state, 6), state
    for iterations in (1, 2, 3):
        in_parts = minimizer.go_on(in_parts, iterations)
    assert at_once.counts == in_parts.counts
    assert at_once.counts[0] == 6
    assert at_once.loss == pytest.approx(in_parts.loss, rel=1e-4)
    assert at_once.loss < 0.8 * begun
    value, _ = objective.value_and_gradient(at_once.results.position)
    assert at_once.loss == pytest.approx(float(value), rel=1e-5)


def test_the_first_trial_step_has_the_length_asked_for():
    task = small_task()
    objective = lbfgs.Objective(task, task.build(0))
    minimizer = lbfgs.Minimizer(objective, memory=5, xla=False)
    state = minimizer.begin(objective.start(), 0.25, counts=(7, 20))
    assert float(tf.norm(state.results.objective_gradient)) == pytest.approx(0.25, rel=1e-5)
    # Its own two evaluations: one for the length, one by TFP.
    assert state.counts == (7, 22)


def test_training_ends_with_the_budget(counted_time):
    counted_time(lbfgs)
    budget = training_runs.Budget(1, 4)
    records, compilation = lbfgs.train(small_task(), "lbfgs", 5, 0, budget, xla=False)
    assert compilation == 1 / 16
    assert [record.seconds for record in records] == [0, 0.25, 0.5, 0.75, 1]
    assert records[0].steps == 0
    assert records[-1].loss < 0.3 * records[0].loss
    assert records[-1].gradients >= records[-1].steps > 10
    assert all(record.figure == record.loss for record in records)


def test_training_ends_where_nothing_is_gained(counted_time):
    counted_time(lbfgs)
    inputs = np.eye(3, dtype="float32")
    task = task_lib.Task(
        "plane",
        inputs,
        2 * inputs[:, :1],
        lambda seed: keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]),
    )
    records, _ = lbfgs.train(task, "lbfgs", 5, 0, training_runs.Budget(60, 1), xla=False)
    assert records[-1].seconds < 30
    assert records[-1].loss < 1e-10


def test_the_figure_is_that_of_the_network_with_the_point_in_it(counted_time):
    counted_time(lbfgs)
    task = small_task(error=lambda model: float(np.sum(model.get_weights()[0] ** 2)))
    budget = training_runs.Budget(1, 1)
    records, _ = lbfgs.train(task, "lbfgs", 5, 0, budget, xla=False)
    start = task.build(0).get_weights()[0]
    assert records[0].figure == pytest.approx(np.sum(start**2), rel=1e-5)
    assert records[-1].figure != records[0].figure
