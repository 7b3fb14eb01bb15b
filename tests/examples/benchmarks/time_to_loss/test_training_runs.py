"""Tests for examples/benchmarks/time_to_loss/training_runs.py."""

import itertools
import re
import types

import keras
import numpy as np
import pytest

import keras_sfn
from benchmarks.common import task as task_lib
from benchmarks.time_to_loss import training_runs
from helpers import timed_training

BUDGET = training_runs.Budget(3, 3)


@pytest.fixture(autouse=True)
def _ticks(counted_time):
    counted_time(timed_training)


def linear_task(rows=10, error=None):
    inputs = np.random.default_rng(0).normal(size=(rows, 3)).astype("float32")

    def build(seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    return task_lib.Task("linear", inputs, inputs.sum(axis=1, keepdims=True), build, error=error)


def test_a_pass_has_each_row_once_with_its_target_and_the_next_another_order():
    task = linear_task(rows=12)
    taken = list(itertools.islice(training_runs.batches(task, 4, seed=0), 6))
    assert {x.shape for x, _ in taken} == {(4, 3)}
    for x, y in taken:
        np.testing.assert_allclose(y[:, 0], np.sum(x, axis=1), rtol=1e-5)
    passes = [np.concatenate([x for x, _ in part]) for part in (taken[:3], taken[3:])]
    for rows in passes:
        np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(task.inputs, axis=0))
    assert not np.array_equal(*passes)


def test_rows_that_fill_no_batch_are_left_out_of_a_pass():
    taken = list(itertools.islice(training_runs.batches(linear_task(10), 4, seed=0), 4))
    assert {x.shape for x, _ in taken} == {(4, 3)}
    first = np.concatenate([x for x, _ in taken[:2]])
    assert len(np.unique(first, axis=0)) == 8


def test_the_order_is_that_of_the_seed():
    def first(seed):
        return next(iter(training_runs.batches(linear_task(), 4, seed)))[0]

    np.testing.assert_array_equal(first(1), first(1))
    assert not np.array_equal(first(1), first(2))


def test_a_batch_of_all_rows_keeps_their_order():
    task = linear_task()
    for x, y in itertools.islice(training_runs.batches(task, 10, seed=0), 2):
        np.testing.assert_array_equal(x, task.inputs)
        np.testing.assert_array_equal(y, task.targets)


def test_first_order_training_counts_seconds_steps_and_gradients():
    task = linear_task()
    optimizer = keras.optimizers.Adam(0.05)
    records, first = training_runs.train_first_order(
        task, "adam", optimizer, 5, 0, BUDGET, at_once=4, xla=False
    )
    assert len(records) == 4
    assert records[0][:3] == (0.0, 0, 0.0)
    for record in records:
        assert record.steps % 4 == 0
        assert record.gradients == pytest.approx(record.steps * 5 / 10)
        assert record.figure == record.loss
    assert records[-1].seconds == 3
    assert records[-1].loss < 0.1 * records[0].loss
    assert first > 0
    # The cosine has fallen to zero.
    assert float(optimizer.learning_rate) == pytest.approx(0, abs=1e-9)


def test_newton_training_counts_products():
    options = {"krylov_dimension": 2, "curvature_batch_size": 5, "jit_compile": False}
    optimizer = keras_sfn.SaddleFreeNewton(**options)
    records, _ = training_runs.train_newton(linear_task(), "newton", optimizer, 10, 0, BUDGET)
    # Three products of two gradients on half of the rows, a gradient and three forward passes.
    assert records[-1].gradients == pytest.approx(records[-1].steps * (3 + 2.5))
    assert records[-1].loss < 1e-6 * records[0].loss


def test_the_figure_is_the_tasks_own_where_it_has_one():
    task = linear_task(error=lambda model: float(model.weights[0].shape[0]))
    optimizer = keras_sfn.SaddleFreeNewton(jit_compile=False)
    records, _ = training_runs.train_newton(task, "newton", optimizer, 10, 0, BUDGET)
    assert {record.figure for record in records} == {3.0}
    assert len({record.loss for record in records}) > 1


def test_a_run_that_the_optimizer_ends_keeps_its_records(capsys):
    task = linear_task()
    task.targets[0] = np.nan
    optimizer = keras_sfn.SaddleFreeNewton(jit_compile=False)
    records, _ = training_runs.train_newton(task, "newton", optimizer, 10, 0, BUDGET)
    assert len(records) == 1
    assert "newton ended early: " in capsys.readouterr().out


@pytest.mark.parametrize("xla_takes", [0.5, 2.0])
def test_the_faster_of_two_compilations_is_found(capsys, monkeypatch, xla_takes):
    asked = []
    now = 0.0

    def optimizer():
        asked.append(None)
        return keras.optimizers.SGD(0.01)

    def perf_counter():
        nonlocal now
        now += xla_takes if len(asked) == 2 else 1.0
        return now

    monkeypatch.setattr(training_runs, "time", types.SimpleNamespace(perf_counter=perf_counter))
    faster = training_runs.xla_is_faster(linear_task(), optimizer, 5, at_once=2)
    # Two steps between two readings.
    assert re.findall(r"([\d.e+-]+) ms", capsys.readouterr().out) == [
        "500",
        f"{500 * xla_takes:.3g}",
    ]
    assert faster == (xla_takes < 1)
