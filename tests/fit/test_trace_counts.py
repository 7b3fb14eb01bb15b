"""How often a first step evaluates the loss while it is traced: that is most of what it takes."""

import keras
import numpy as np
import pytest

import keras_sfn

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = X[:, :1] ** 2

# Of a step: the gradient for a look at its ops, the gradient, and for a check of it gradient and
# loss. In a subspace besides: a sample of the Gauss-Newton matrix, products for a renewal and for
# the subspace, the loss of trial steps. Of averages: a product and two losses of a look.
SUBSPACE, AVERAGED = 8, 6
# The model is built by a call; `fit` tells its kind by the loss and the gradient, and that of
# another shape by the loss.
BUILT, KIND, OTHER_SHAPE = 1, 2, 1


class Counting(keras.layers.Layer):
    """Counts its calls in Python."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def call(self, x):
        self.count += 1
        return x

    def new(self):
        count, self.count = self.count, 0
        return count


def model_of(**arguments):
    keras.utils.set_random_seed(0)
    counting = Counting()
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8, "tanh"), counting, keras.layers.Dense(1)]
    )
    model.compile(keras_sfn.SaddleFreeNewton(**arguments), "mse")
    counting.new()
    return model, counting


def fit(model, rows=64):
    model.fit(X[:rows], Y[:rows], batch_size=rows, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "step"), [({}, SUBSPACE), ({"stochastic": True}, AVERAGED)], ids=repr
)
def test_fit(arguments, step):
    model, counting = model_of(**arguments)
    fit(model)
    first = counting.new()
    fit(model)
    again = counting.new()
    fit(model, rows=48)
    other_size = counting.new()
    model, counting = model_of(**arguments)
    fit(model)
    second_model = counting.new()
    assert (first, again) == (BUILT + KIND + step, 0)
    assert other_size == OTHER_SHAPE + step
    assert second_model == BUILT + KIND


@pytest.mark.parametrize(
    ("arguments", "step"),
    [({"stochastic": False}, SUBSPACE), ({"stochastic": True}, AVERAGED)],
    ids=repr,
)
def test_train_on_batch(arguments, step):
    model, counting = model_of(**arguments)
    model.train_on_batch(X, Y)
    assert counting.new() == BUILT + step
    model.train_on_batch(X, Y)
    assert counting.new() == 0
    model.train_on_batch(X[:48], Y[:48])
    assert counting.new() == step
    model.train_on_batch(X[:32], Y[:32])
    assert counting.new() == 0
