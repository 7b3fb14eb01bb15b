"""Whole training runs, on real data and on saddles."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_sfn


def losses_of(model, optimizer, x, y, steps):
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    history = model.fit(x, y, batch_size=len(x), epochs=steps, verbose=0, shuffle=False).history
    return [*history["loss"], model.evaluate(x, y, batch_size=len(x), verbose=0)]


def test_digits_in_twelve_steps(make_classifier, digits):
    x, y = digits
    ours = losses_of(make_classifier(), "saddle_free_newton", x, y, 12)
    adam = losses_of(make_classifier(), keras.optimizers.Adam(1e-2), x, y, 12)
    assert ours[0] == pytest.approx(adam[0], rel=1e-5)
    assert ours[-1] < 0.5 * adam[-1]
    assert ours[-1] < 0.05
    assert (np.diff(ours) <= 0).all()


_DIGITS = """
import json, keras, sklearn.datasets, keras_sfn
data = sklearn.datasets.load_digits()
x, y = (data.data / 16).astype("float32"), data.target.astype("int64")
losses = []
for options in ({}, {"krylov_dimension": 6}):
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(24, activation="tanh"), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.Input((64,)), *layers])
    model.compile(keras_sfn.SaddleFreeNewton(**options), "sparse_categorical_crossentropy")
    losses += model.fit(x, y, batch_size=len(x), epochs=4, verbose=0, shuffle=False).history["loss"]
print(json.dumps(losses))
"""


@pytest.mark.slow
def test_code_that_xla_optimizes_takes_the_same_steps():
    """The tests' own process has XLA compile quickly (`conftest.py`), unlike a user's."""
    as_tests, as_users = (
        json.loads(
            subprocess.check_output(
                [sys.executable, "-c", _DIGITS],
                text=True,
                env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)},
            ).splitlines()[-1]
        )
        for flags in (os.environ["XLA_FLAGS"], "")
    )
    assert len(as_users) == 8
    np.testing.assert_allclose(as_users, as_tests, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("damping", ["search", "adaptive", 1e-2])
def test_two_layers_leave_the_saddle_at_zero(damping):
    """At zero weights the gradient of a two-layer linear net vanishes and H is indefinite."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    y = x @ rng.normal(size=(4, 1)).astype("float32")

    def train(optimizer):
        model = keras.Sequential(
            [keras.Input((4,))]
            + [
                keras.layers.Dense(units, use_bias=False, kernel_initializer="zeros")
                for units in (3, 1)
            ]
        )
        model.compile(optimizer, "mse")
        return model.fit(x, y, batch_size=64, epochs=40, verbose=0).history["loss"]

    gradient_descent = train(keras.optimizers.SGD(0.1))
    assert gradient_descent[-1] == gradient_descent[0]
    ours = train(keras_sfn.SaddleFreeNewton(damping=damping, jit_compile=False))
    assert ours[-1] < 1e-4 * ours[0]


@pytest.mark.slow
@pytest.mark.parametrize("damping", ["search", "adaptive"])
def test_minibatches_of_digits_generalise(make_classifier, digits, damping):
    x, y = digits
    model = make_classifier()
    model.compile(
        keras_sfn.SaddleFreeNewton(damping=damping),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(x[:1400], y[:1400], batch_size=350, epochs=12, verbose=0)
    accuracy = model.evaluate(x[1400:], y[1400:], verbose=0, return_dict=True)["accuracy"]
    assert accuracy > 0.88
