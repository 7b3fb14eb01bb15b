"""A gradient that is not the derivative of its loss is told, by the check and by a step."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn


@tf.custom_gradient
def rounded(x):
    return tf.round(4 * x) / 4, lambda slope: slope


@tf.custom_gradient
def reversed_slope(x):
    return tf.identity(x), lambda slope: -slope


@tf.custom_gradient
def half_slope(x):
    return tf.identity(x), lambda slope: slope / 2


@tf.custom_gradient
def cubed(x):
    return x**3, lambda slope: 3 * x**2 * slope


def straight_through(x):
    return x + tf.stop_gradient(tf.round(4 * x) / 4 - x)


def semi_gradient(x):
    return x * tf.stop_gradient(x)


# What it does to a hidden layer; whether the report is true; whether the first step warns.
CASES = {
    "rounded": (rounded, False, True),
    "straight_through": (straight_through, False, False),
    "reversed": (reversed_slope, False, True),
    "half": (half_slope, False, True),
    "semi_gradient": (semi_gradient, True, False),
    "cubed": (cubed, True, False),
    "relu": (tf.nn.relu, True, False),
    "silu": (tf.nn.silu, True, False),
    "round_of_inputs": (None, True, False),
}


def model_and_batch(function):
    keras.utils.set_random_seed(1)
    layers = keras.layers
    first = [layers.Lambda(tf.round)] if function is None else []
    behind = [] if function is None else [layers.Lambda(function)]
    hidden = [layers.Dense(6, activation="tanh"), *behind]
    model = keras.Sequential([keras.Input((3,)), *first, *hidden, layers.Dense(1)])
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    return model, x, np.sin(x[:, :1] * x[:, 1:2])


@pytest.mark.parametrize("name", CASES)
def test_the_check_tells(name):
    function, true, _ = CASES[name]
    model, x, y = model_and_batch(function)
    model.compile(loss="mse")
    report = keras_sfn.check_curvature(model, x, y, num_directions=1)
    assert bool(report) == true, report
    assert ("The gradient is not the derivative of the loss" in str(report)) != true
    assert ("Each step lowers the loss with that held" in str(report)) == (name == "semi_gradient")


@pytest.mark.parametrize(
    ("name", "eager"),
    [
        ("reversed", True),
        ("silu", True),
        *(
            pytest.param(name, eager, marks=pytest.mark.slow)
            for name, eager in (("half", True), ("cubed", True), ("rounded", True))
        ),
        pytest.param("reversed", False, marks=pytest.mark.slow),
    ],
)
def test_the_first_step_warns(name, eager):
    function, _, warns = CASES[name]
    model, x, y = model_and_batch(function)
    optimizer = keras_sfn.SaddleFreeNewton(krylov_dimension=2, damping=1.0, jit_compile=False)
    # Whose gradient is right.
    model.layers[-1].trainable = False
    model.compile(optimizer, "mse", run_eagerly=eager)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    found = [w for w in seen if "gradient of the loss is not its derivative" in str(w.message)]
    assert len(found) == warns


def test_a_reversed_gradient_is_told_by_its_sign():
    model, x, y = model_and_batch(reversed_slope)
    optimizer = keras_sfn.SaddleFreeNewton(krylov_dimension=2, jit_compile=False)
    model.layers[-1].trainable = False
    model.compile(optimizer, "mse", run_eagerly=True)
    with pytest.warns(RuntimeWarning, match=r"the loss changes -(1|0\.99) times as fast"):
        model.fit(x, y, batch_size=64, verbose=0)
