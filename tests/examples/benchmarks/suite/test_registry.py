"""Tasks of the suite train, in their quick form: one of each kind of model and data."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import registry
from benchmarks.time_to_loss import training_runs

QUICK = entry_lib.Form(quick=True)
NAMES = list(registry.ENTRIES)
# The others differ in sizes, in a layer or in an equation.
KINDS = ["deeponet", "resnet", "vae", "gru_text", "transformer", "graph_convolution", "burgers"]


@pytest.fixture(scope="module")
def entries():
    return {name: make(QUICK) for name, make in registry.ENTRIES.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_task_takes_a_step_with_ours_and_with_adam(name, entries):
    entry = entries[name]
    task = entry.task
    model = task.build(0)
    # The steps that are traced fastest. Those of the defaults are seen in test_run.py.
    ours = keras_sfn.SaddleFreeNewton(krylov_dimension=2, damping=1.0, jit_compile=False)
    for optimizer, rows in (
        (ours, entry.newton_rows),
        (keras.optimizers.Adam(1e-4), entry.rival_rows[0]),
    ):
        model.compile(optimizer, task.loss)
        before = model.get_weights()
        data = training_runs.batches(task, rows, 0)
        loss = model.fit(data, steps_per_epoch=1, shuffle=False, verbose=0).history["loss"][0]
        values = [variable.value for variable in model.trainable_variables]
        after = float(task.loss_at(model, values, training=False))
        assert np.isfinite([loss, after]).all()
        moved = (
            not np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True)
        )
        assert any(moved)
    if task.error is not None:
        assert 0 <= task.error(model) < np.inf


@pytest.mark.parametrize("name", KINDS)
def test_weights_are_those_of_the_seed_and_rows_do_not_depend_on_it(name, entries):
    task = entries[name].task
    assert task.name == name
    first, again, other = (task.build(seed).get_weights() for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any(not np.array_equal(*pair) for pair in zip(first, other, strict=True))
    same = registry.ENTRIES[name](QUICK).task
    for one, two in zip(
        tf.nest.flatten((task.inputs, task.targets)),
        tf.nest.flatten((same.inputs, same.targets)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


def test_there_are_tasks_of_both_kinds(entries):
    assert len(NAMES) == 17
    kinds = [entry.kind for entry in entries.values()]
    assert kinds.count("deterministic") == 10
    # With all rows a step has nothing random.
    assert all(e.newton_rows == e.task.rows for e in entries.values() if e.deterministic)


@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_what_behaves_differently_in_training_says_both_losses(name, entries):
    task = entries[name].task
    model = task.build(0)
    model.compile(loss=task.loss)
    loss = model.evaluate(task.inputs, task.targets, verbose=0)
    assert task.figure == "loss in training mode"
    assert abs(task.error(model) - loss) > 1e-4 * loss
