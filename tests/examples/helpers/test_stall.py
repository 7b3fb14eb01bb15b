"""Training ends where the loss stalls, with the best weights."""

import keras
import numpy as np
import pytest

from helpers import stall

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = X @ np.ones((3, 1), "float32")


def train(learning_rate, patience, improvement, epochs, callbacks=()):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    stopper = stall.UntilStalled("sgd", X, Y, patience, improvement, epochs)
    model.fit(X, Y, batch_size=20, epochs=epochs, verbose=0, callbacks=[*callbacks, stopper])
    return model, stopper


@pytest.mark.parametrize("patience", [1, 4])
def test_a_loss_that_does_not_fall_ends_training_after_the_patience(patience):
    _, stopper = train(0.0, patience, 0.01, 10)
    assert stopper.stalled
    assert len(stopper.records) == patience + 1
    assert [steps for _, steps, _ in stopper.records] == list(range(0, 2 * patience + 1, 2))


def test_a_loss_that_falls_trains_on():
    _, stopper = train(0.05, 2, 0.01, 8)
    assert not stopper.stalled
    assert len(stopper.records) == 9
    seconds = [s for s, _, _ in stopper.records]
    assert seconds == sorted(seconds)
    assert seconds[0] == 0


def test_the_improvement_asked_for_decides():
    assert train(0.05, 1, 0.99, 8)[1].stalled


def test_the_best_weights_are_kept():
    up = keras.callbacks.LearningRateScheduler(lambda epoch: 0.05 if epoch < 3 else 2.0)
    model, stopper = train(0.05, 20, 0.01, 6, [up])
    losses = [loss for _, _, loss in stopper.records]
    assert losses[-1] > losses[3]
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(min(losses), rel=1e-6)
    assert min(losses) == losses[3]


def test_a_loss_that_is_not_finite_ends_training():
    _, stopper = train(1e20, 50, 0.01, 10)
    assert not np.isfinite(stopper.records[-1][2])
    assert len(stopper.records) < 11
    assert not stopper.stalled
