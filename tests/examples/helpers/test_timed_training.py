"""Training by the clock."""

import keras
import numpy as np
import pytest

from helpers import timed_training

pytestmark = pytest.mark.usefixtures("ticks")

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")


@pytest.fixture
def ticks(counted_time):
    counted_time(timed_training)


def train(seconds, points, cosine=False, executed_at_once=1, **options):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.01), "mse", steps_per_execution=executed_at_once)
    timer = timed_training.TimedTraining("sgd", X, seconds, points, cosine, **options)
    model.fit(X, X, batch_size=20, epochs=100_000, verbose=0, callbacks=[timer])
    return model, timer


def test_ends_in_time_with_a_record_at_each_point(capsys):
    model, timer = train(3, 3)
    # The clock starts after the first batch, and stands still while the loss is recorded.
    assert [record[:2] for record in timer.records] == [(0, 0), (1, 17), (2, 33), (3, 49)]
    assert timer.records[-1][2] == pytest.approx(model.evaluate(X, X, verbose=0), rel=1e-5)
    assert timer.first_step_seconds == 1 / 16
    assert timer.measurements == []
    assert "sgd: training for 3 s" in capsys.readouterr().out


def test_a_step_that_passes_several_points_is_recorded_for_each():
    # Four points in the time of a step. That recording takes is no training, however often.
    _, timer = train(0.25, 16)
    assert [seconds for seconds, _, _ in timer.records] == [0] + [
        (i // 4 + 1) / 16 for i in range(16)
    ]
    assert timer.records[-1][1] == 5


def test_measures_at_each_record():
    calls = []
    _, timer = train(0.5, 2, measure=lambda: calls.append(1) or (float(len(calls)),))
    assert timer.measurements == [(1.0,), (2.0,), (3.0,)]


def test_the_learning_rate_falls_to_zero():
    model, _ = train(1, 1, cosine=True)
    assert float(model.optimizer.learning_rate) == pytest.approx(0, abs=1e-9)


def test_other_targets():
    model, timer = train(1, 1, targets=X + 1)
    assert timer.records[-1][2] == pytest.approx(model.evaluate(X, X + 1, verbose=0), rel=1e-5)


def test_steps_are_counted_that_keras_takes_at_once():
    model, timer = train(1, 1, executed_at_once=2)
    _, steps, _ = timer.records[-1]
    assert steps == int(model.optimizer.iterations.numpy()) == 34
