"""Tests for examples/benchmarks/common/task.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.common import task as task_lib

X = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")


def build(seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(3, kernel_regularizer="l2"), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Softmax()])


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        ("mse", X[:, :3]),
        ("sparse_categorical_crossentropy", np.arange(30) % 3),
        (keras.losses.MeanAbsoluteError(), X[:, :3]),
    ],
    ids=["function", "integer targets", "object"],
)
@pytest.mark.parametrize("training", [False, True])
def test_the_loss_is_that_of_keras(loss, targets, training):
    task = task_lib.Task("task", X, targets, build, loss=loss).tensors()
    model = task.build(0)
    model.compile(keras.optimizers.SGD(0.0), loss)
    values = [variable.value for variable in model.trainable_variables]
    state = [variable.numpy() for variable in model.non_trainable_variables]
    found = float(task.loss_at(model, values, training=training))
    for variable, before in zip(model.non_trainable_variables, state, strict=True):
        np.testing.assert_array_equal(variable, before)
    method = model.train_on_batch if training else model.test_on_batch
    assert found == pytest.approx(float(method(X, targets)), rel=1e-5)
    other = [value + 1 for value in values]
    assert abs(float(task.loss_at(model, other, training=training)) - found) > 1e-3


def test_rows_are_those_of_a_structure_and_stay_one_tensor_where_they_are_targets():
    task = task_lib.Task("task", (X, X[:, :1]), X, build)
    assert task.rows == 30
    assert tf.is_tensor(task.tensors().inputs[1])
    same = task_lib.Task("task", X, X, build).tensors()
    assert same.targets is same.inputs
