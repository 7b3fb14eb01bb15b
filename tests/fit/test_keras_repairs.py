"""The repairs where one process shows them; `test_workers` trains with several."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.fit import keras_repairs
from tests import strategies


@pytest.fixture
def strategy():
    """Of one worker, this process."""
    return tf.distribute.MultiWorkerMirroredStrategy()


def test_installing_twice_wraps_once():
    wrapped = keras.Model._make_function
    keras_repairs.install()
    assert keras.Model._make_function is wrapped


def test_logs_are_averaged_and_other_values_left_to_keras(strategy):
    reduce = keras_repairs.keras_trainer.reduce_per_replica
    logs = strategy.run(lambda: {"loss": tf.constant(2.0), "mae": tf.constant(3.0)})
    assert {name: float(v) for name, v in reduce(logs, strategy, "auto").items()} == {
        "loss": 2,
        "mae": 3,
    }
    rows = strategy.run(lambda: tf.constant([1.0, 2.0]))
    np.testing.assert_array_equal(reduce(rows, strategy, "concat"), [1, 2])


def test_under_other_strategies_keras_s_own_function_is_used():
    mirrored = strategies.mirrored(2)
    values = mirrored.run(lambda: tf.distribute.get_replica_context().replica_id_in_sync_group)
    wrapped = keras_repairs.keras_trainer.reduce_per_replica
    original = wrapped._keras_sfn_original
    assert int(wrapped(values, mirrored, "first")) == int(original(values, mirrored, "first")) == 0


@pytest.mark.parametrize("optimizer", ["sgd", "saddle_free_newton"])
def test_several_steps_an_execution_end_with_the_epoch(strategy, optimizer):
    x = np.random.default_rng(0).normal(size=(14, 3)).astype("float32")
    batches = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(2)
    calls = []
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(optimizer, "mse", steps_per_execution=3)
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: calls.append(batch)
    )
    model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[count])
    assert len(calls) == 2 * 3
    assert int(model.optimizer.iterations.numpy()) == 2 * 7
    assert model.steps_per_execution == 3
