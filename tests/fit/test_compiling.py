import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import logging

import keras_sfn
from keras_sfn.curvature import survey
from keras_sfn.fit import compiling


class Optimizer:
    name = "newton"

    def __init__(self, compiles=()):
        self._compiles = iter(compiles)

    def compiles_within(self, steps):
        return next(self._compiles, 0) == steps


@pytest.fixture
def said(monkeypatch):
    """What is logged in calls that all take longer than three seconds, as they think."""

    class Timer:
        def __init__(self, seconds, function, arguments):
            assert seconds == 3
            self.start = lambda: function(*arguments)
            self.cancel = lambda: None

    lines = []
    monkeypatch.setattr(threading, "Timer", Timer)
    monkeypatch.setattr(logging, "warning", lines.append)
    return lines


def test_a_long_first_call_is_told_of_and_a_long_later_one_is_not(said):
    watch = compiling.Watch([Optimizer(), Optimizer()])
    for _ in range(2):
        with watch.call(1):
            pass
    [line] = said
    assert line.startswith("newton, newton: the first step is traced and compiled")


def test_a_short_first_call_is_not_told_of(monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "warning", lines.append)
    # Long enough that no machine gets there before the call has ended.
    monkeypatch.setattr(compiling, "_PATIENCE", 3600.0)
    with compiling.Watch([Optimizer()]).call(1):
        [timer] = [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
    timer.join()
    assert lines == []


def test_the_call_in_which_xla_compiles_is_told_of(said):
    watch = compiling.Watch([Optimizer([0, 4])])
    for _ in range(4):
        with watch.call(4):
            pass
    first, later = said
    assert "first step" in first
    assert "XLA compiles the step" in later


@pytest.mark.parametrize("steps", [1, 2])
def test_xla_takes_over_during_fit(monkeypatch, float64, steps):
    messages = []
    message = compiling.Watch._message

    def recorded(self, steps):
        messages.append(message(self, steps))
        return messages[-1]

    monkeypatch.setattr(compiling.Watch, "_message", recorded)
    monkeypatch.setattr(survey, "_KERNELS_BEFORE_JIT", 600)
    x = np.random.default_rng(0).normal(size=(64, 40))

    def losses(jit_compile):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(40)])
        optimizer = keras_sfn.SaddleFreeNewton(jit_compile=jit_compile, stochastic=False)
        model.compile(optimizer, "mse", steps_per_execution=steps)
        options = {"batch_size": 16, "epochs": 3, "shuffle": False, "verbose": 0}
        return model.fit(x, x, **options).history["loss"]

    found = losses("auto")
    [told] = [index for index, line in enumerate(messages) if line and "XLA" in line]
    assert 0 < told < len(messages) - 1
    np.testing.assert_allclose(found, losses(False), rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"curvature_batch_size": 50}, marks=pytest.mark.slow),
        pytest.param({"curvature_batch_size": None}, marks=pytest.mark.slow),
        pytest.param({"micro_batch_size": 100}, marks=pytest.mark.slow),
        pytest.param({"krylov_dimension": 3, "curvature_batch_size": 64}, marks=pytest.mark.slow),
    ],
)
def test_batches_of_unknown_size_are_compiled_when_that_pays(options, monkeypatch):
    # XLA must know every shape, and a data set need not tell how many rows its batches have.
    monkeypatch.setattr(survey, "_KERNELS_BEFORE_JIT", 4000)
    monkeypatch.setattr(survey, "_FUSED_AT_ONCE", 1.0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1100, 6)).astype("float32")
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(2)]
    )
    model.compile(optimizer := keras_sfn.SaddleFreeNewton(**options), "mse")
    batches = tf.data.Dataset.from_tensor_slices((x, np.sin(x[:, :2]))).batch(1100)
    assert batches.element_spec[0].shape[0] is None
    losses = model.fit(batches, verbose=0, shuffle=False).history["loss"]
    assert optimizer.compiles_within(20)
    losses += model.fit(batches, epochs=20, verbose=0, shuffle=False).history["loss"]
    assert not optimizer.compiles_within(1)
    assert losses[-1] < 0.2 * losses[0]
