import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.backend import devices
from tests import strategies

DENSE = frozenset({"MatMul", "Tanh"})


@pytest.mark.parametrize("option", [True, False])
@pytest.mark.parametrize("ops", [DENSE, DENSE | {"Conv2D"}])
def test_an_explicit_choice_is_kept(option, ops):
    assert devices.jit_compile(option, ops) is option


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("Softmax", True),
        ("Conv2D", False),
        ("Conv3D", False),
        ("While", False),
        ("GatherV2", False),
        ("MaxPool", False),
    ],
)
def test_auto_on_a_cpu_leaves_what_xla_is_slow_at_to_the_graph(monkeypatch, extra, expected):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    assert devices.jit_compile("auto", DENSE | {extra}) is expected


def test_auto_on_a_gpu_compiles(monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["GPU:0"])
    assert devices.jit_compile("auto", DENSE | {"Conv2D"}) is True


@pytest.mark.parametrize("of_model", [False, True])
def test_auto_is_what_the_model_says(monkeypatch, of_model):
    gpus = [] if of_model else ["GPU:0"]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: gpus)
    assert devices.jit_compile("auto", DENSE | {"Conv2D"}, of_model) is of_model
    assert devices.jit_compile(not of_model, DENSE, of_model) is not of_model


@pytest.mark.parametrize("kind", [tf.distribute.TPUStrategy, tf.distribute.ParameterServerStrategy])
def test_strategies_without_replicas_in_step_are_refused(monkeypatch, kind):
    strategy = object.__new__(kind)  # Making one takes a cluster.
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: strategy)
    monkeypatch.setattr(tf.distribute, "has_strategy", lambda: True)
    with pytest.raises(NotImplementedError, match=f"train under `Mirrored.*{kind.__name__}"):
        keras_sfn.SaddleFreeNewton()


def test_a_model_is_not_compiled_under_a_refused_strategy():
    strategy = tf.distribute.experimental.CentralStorageStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        with pytest.raises(NotImplementedError, match="CentralStorage"):
            model.compile("saddle_free_newton", "mse")


def test_data_parallel_of_keras_is_refused():
    # Before Keras 3.13 none can be made with TensorFlow.
    distribution = object.__new__(keras.distribution.DataParallel)
    keras.distribution.set_distribution(distribution)
    try:
        with pytest.raises(NotImplementedError, match=r"DataParallel.*MirroredStrategy"):
            keras_sfn.SaddleFreeNewton()
    finally:
        keras.distribution.set_distribution(None)


def test_what_one_device_computes_is_refused_under_replicas():
    with strategies.mirrored(2).scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("saddle_free_newton", "mse")
        x, y = tf.ones((4, 3)), tf.zeros((4, 1))
        with pytest.raises(RuntimeError, match=r"HessianOperator.*2 replicas.*outside"):
            keras_sfn.HessianOperator.from_model(model, x, y)
        with pytest.raises(RuntimeError, match="check_curvature"):
            keras_sfn.check_curvature(model, x, y)
    hessian = keras_sfn.HessianOperator.from_model(model, x, y)
    # Of the mean of (w'x + b)^2 at x = 1: twice a matrix of ones.
    np.testing.assert_allclose(hessian.to_dense(), np.full((4, 4), 2), rtol=1e-6)
    assert keras_sfn.check_curvature(model, x, y)


@pytest.mark.parametrize(
    ("gpus", "option", "of_model", "waits"),
    [
        ([], "auto", "auto", True),
        ([], True, "auto", False),
        ([], "auto", True, False),
        (["GPU:0"], "auto", "auto", False),
    ],
)
def test_xla_waits_on_a_cpu_where_nobody_asked_for_it(monkeypatch, gpus, option, of_model, waits):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: gpus)
    assert devices.jit_waits(option, of_model) is waits


def test_a_function_is_traced_once_and_compiled_when_it_is_no_longer_early():
    traces = []

    def function(x):
        traces.append(1)
        # Refused by XLA alone: that it compiles is seen in this.
        return tf.py_function(lambda value: 2 * value, [x], x.dtype)

    @tf.function(autograph=False)
    def called(early, x):
        return devices.compiled(function, True, early)(x)

    assert float(called(tf.constant(True), tf.constant(3.0))) == 6
    with pytest.raises(tf.errors.InvalidArgumentError, match="EagerPyFunc"):
        called(tf.constant(False), tf.constant(3.0))
    assert len(traces) == 1


@pytest.mark.parametrize("jit", [False, True])
def test_without_a_time_to_wait_for_xla_compiles_at_once(jit):
    function = devices.compiled(lambda x: tf.py_function(lambda v: 2 * v, [x], x.dtype), jit)
    if jit:
        with pytest.raises(tf.errors.InvalidArgumentError, match="EagerPyFunc"):
            function(tf.constant(3.0))
    else:
        assert float(function(tf.constant(3.0))) == 6
