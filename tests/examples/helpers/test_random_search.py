"""The draws of SGD and their trainings, against NumPy."""

import keras
import numpy as np
import pytest

from helpers import random_search


def test_draws_are_within_their_ranges_and_do_not_depend_on_how_many_there_are():
    found = random_search.draws(200, 1000, seed=3)
    assert found[:5] == random_search.draws(5, 1000, seed=3)
    assert found[:5] != random_search.draws(5, 1000, seed=4)
    assert {draw.momentum for draw in found} == set(random_search.MOMENTUM)
    assert {draw.batch_size for draw in found} == set(random_search.BATCH_SIZE)
    for values, (low, high) in (
        ([d.learning_rate / (1 - d.momentum) for d in found], random_search.EFFECTIVE_RATE),
        ([d.decay for d in found], random_search.DECAY),
    ):
        logs = (np.log(values) - np.log(low)) / np.log(high / low)
        assert 0 <= logs.min() < 0.1
        assert 0.9 < logs.max() <= 1


def test_no_batch_is_larger_than_the_data():
    assert {draw.batch_size for draw in random_search.draws(50, 7, seed=0)} == {5, 7}


def linear_problem():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(10, 3)).astype("float32")
    labels = rng.integers(0, 2, 10).astype("int32")
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), inputs, labels


def numpy_sgd(weights, inputs, labels, draw, epochs, seed):
    """Softmax regression; the rest of the rows that fills no batch is left out."""
    rng = np.random.default_rng(seed)
    matrix, bias = (array.astype("float64") for array in weights)
    speed = [np.zeros_like(matrix), np.zeros_like(bias)]
    for epoch in range(epochs):
        rate = draw.learning_rate * draw.decay ** (epoch / epochs)
        order = rng.permutation(len(labels))
        for start in range(0, len(labels) - draw.batch_size + 1, draw.batch_size):
            rows = order[start : start + draw.batch_size]
            exponentials = np.exp(inputs[rows] @ matrix + bias)
            residual = exponentials / exponentials.sum(axis=1, keepdims=True)
            residual[np.arange(len(rows)), labels[rows]] -= 1
            residual /= len(rows)
            gradients = inputs[rows].T @ residual, residual.sum(axis=0)
            speed = [draw.momentum * s - rate * g for s, g in zip(speed, gradients, strict=True)]
            matrix, bias = matrix + speed[0], bias + speed[1]
    return matrix, bias


@pytest.mark.parametrize("batch_size", [4, 10])
def test_training_is_that_of_numpy(batch_size):
    model, inputs, labels = linear_problem()
    start = model.get_weights()
    draw = random_search.Draw(0.5, 0.9, batch_size, 0.1)
    trainer = random_search.Trainer(model, inputs, labels)
    recorded, seconds = trainer.run(draw, epochs=4, every=2, seed=5)
    assert len(recorded) == len(seconds) == 3
    assert seconds[0] == 0 < seconds[1] < seconds[2]
    np.testing.assert_array_equal(recorded[0][0], start[0])
    expected = numpy_sgd(start, inputs, labels, draw, 4, 5)
    for found, array in zip(recorded[2], expected, strict=True):
        np.testing.assert_allclose(found, array, rtol=1e-4, atol=1e-5)
    again, _ = trainer.run(draw, epochs=4, every=2, seed=5)
    np.testing.assert_array_equal(again[2][0], recorded[2][0])


def test_a_training_that_is_no_longer_finite_ends():
    model, inputs, labels = linear_problem()
    draw = random_search.Draw(float("inf"), 0.0, 5, 1.0)
    recorded, _ = random_search.Trainer(model, inputs, labels).run(draw, 50, 1, seed=0)
    assert len(recorded) == 2
    assert not np.isfinite(recorded[1][0]).all()
