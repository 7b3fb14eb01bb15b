"""Tests for examples/benchmarks/peers/training_file.py."""

import keras
import numpy as np
import pytest

from benchmarks.peers import training_file
from benchmarks.peers.training_file import Layer


def a_training(**changes):
    weights = [np.full((2, 3), 1.5), np.zeros(3), *(np.full(1, float(i)) for i in range(10))]
    inputs = np.random.default_rng(0).normal(size=(5, 2))
    training = training_file.Training((Layer("dense", 3, "tanh"),), False, weights, inputs, inputs)
    return training._replace(**changes)


@pytest.mark.parametrize("residual", [False, True])
def test_a_training_survives_its_file(tmp_path, residual):
    training = a_training(residual=residual, targets=np.ones((5, 1)))
    training_file.write(tmp_path / "training.npz", training)
    again = training_file.read(tmp_path / "training.npz")
    assert again.layers == training.layers
    assert again.residual is residual
    for one, other in zip(
        [*again.weights, again.inputs, again.targets],
        [*training.weights, training.inputs, training.targets],
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float64
    np.testing.assert_array_equal(again.point[:6], 1.5)
    assert again.point.shape == (19,)


def test_targets_that_are_the_inputs_are_written_once(tmp_path):
    training_file.write(tmp_path / "training.npz", a_training())
    again = training_file.read(tmp_path / "training.npz")
    assert again.targets is again.inputs


def test_layers_are_described():
    layers = [keras.layers.SimpleRNN(4), keras.layers.Dense(2), keras.layers.Dense(3, "sigmoid")]
    assert training_file.describe(layers) == (
        Layer("simple_rnn", 4, "tanh"),
        Layer("dense", 2, "linear"),
        Layer("dense", 3, "sigmoid"),
    )


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.GRU(4),
        keras.layers.Dense(2, use_bias=False),
        keras.layers.SimpleRNN(4, return_sequences=True),
        keras.layers.SimpleRNN(4, recurrent_dropout=0.5),
    ],
)
def test_other_layers_are_refused(layer):
    name = type(layer).__name__
    with pytest.raises(ValueError, match=rf"^A peer knows Dense and .* Received: {name}\("):
        training_file.describe([layer])
