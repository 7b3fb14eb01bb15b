"""Helpers that several test files share."""

import collections
import gc
import importlib.metadata
import itertools
import os
import sys
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Code that is compiled in half the time and runs slower: compilation is most of what tests take.
# What is set already, be it empty, stays: `XLA_FLAGS= pytest` compiles as a user's process does.
# XLA ends a process with a flag that it does not know, so the second is for where it was tried.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    if importlib.metadata.version("tensorflow").startswith("2.21.")
    else "--xla_backend_optimization_level=0",
)

import keras
import numpy as np
import pytest
import tensorflow as tf

# Replicas of `tf.distribute` need devices, and these must be there before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)


def pytest_addoption(parser):
    """Adds `--cases`."""
    parser.addoption(
        "--cases",
        type=int,
        metavar="N",
        help="Run at most N cases of each parametrized test, spread over all of them.",
    )


def pytest_collection_modifyitems(config, items):
    """Puts tests that wait first, so that others fill the time; leaves out what `--cases` does."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)
    most = config.getoption("cases")
    if most is None:
        return
    of_test = collections.defaultdict(list)
    for item in items:
        of_test[item.nodeid.partition("[")[0]].append(item)
    kept = []
    for cases in of_test.values():
        count = min(most, len(cases))
        kept += [cases[i * len(cases) // count] for i in range(count)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def pytest_configure(config):
    """Has a worker of `-n` that is done take tests over: some take a hundred times as long."""
    if config.getoption("dist", None) == "load":
        config.option.dist = "worksteal"


# Graphs are made of many small objects: looking through them for garbage takes a seventh of the
# time of all tests.
gc.set_threshold(200_000, 50, 100)


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _no_shared_steps():
    """Each test traces its steps itself: many put something else in the place of a part of them."""
    shared_steps = sys.modules.get("keras_sfn.fit.shared_steps")
    if shared_steps is not None:
        shared_steps.forget()


@pytest.fixture
def counted_time(monkeypatch):
    """Gives modules a clock that each reading sets forward by a sixteenth of a second.

    What is done "until the time is up" is then the same on every machine.
    """

    readings = itertools.count()
    clock = types.SimpleNamespace(perf_counter=lambda: next(readings) / 16)

    def use(*modules):
        for module in modules:
            monkeypatch.setattr(module, "time", clock)

    return use


@pytest.fixture
def optimized_code(monkeypatch):
    """Processes that the test starts compile as a user's process does."""
    monkeypatch.delenv("XLA_FLAGS")


@pytest.fixture(scope="session")
def digits():
    """All 1,797 digits: inputs (1797, 64) in 0..1 and labels (1797,)."""
    # Here, since its import takes a second, and most files do without.
    import sklearn.datasets

    data = sklearn.datasets.load_digits()
    return (data.data / 16).astype("float32"), data.target.astype("int64")


@pytest.fixture
def make_classifier():
    """Builds the same 64-24-10 tanh classifier at every call."""

    def make():
        keras.utils.set_random_seed(1)
        return keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(24, activation="tanh"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )

    return make


@pytest.fixture
def symmetric():
    """Returns a function that builds a symmetric matrix with given eigenvalues."""

    def make(eigenvalues, seed=0):
        eigenvalues = np.asarray(eigenvalues, "float64")
        normal = np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2)
        rotation, _ = np.linalg.qr(normal)
        return rotation @ np.diag(eigenvalues) @ rotation.T

    return make


@pytest.fixture
def make_hessian(symmetric):
    """Returns a function from eigenvalues to a `HessianOperator` and its matrix, in float64."""
    # Here, since most files do without.
    import keras_sfn

    def make(eigenvalues):
        matrix = tf.constant(symmetric(eigenvalues))
        point = keras.Variable(np.ones(len(eigenvalues)), dtype="float64")

        def loss_fn():
            return 0.5 * tf.reduce_sum(point * tf.linalg.matvec(matrix, point.value))

        return keras_sfn.HessianOperator(loss_fn, [point]), matrix.numpy()

    return make


@pytest.fixture
def with_outliers(symmetric):
    """A matrix with eigenvalues far above the others, as networks have, and a start vector."""
    random = np.random.default_rng(0)
    values = np.concatenate([10.0 ** np.linspace(0, 2, 8), 0.1 * np.abs(random.normal(size=192))])
    return symmetric(values), random.normal(size=200)


@pytest.fixture
def float64():
    """Makes float64 Keras's default for one test."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def double_precision():
    """Makes float64 Keras's default for a file whose tests compare one training with another.

    In single precision, functions that are traced in different ways differ in the last digits.
    """
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def collect():
    """Returns `gc.collect` for what the test has made: that of all tests before takes a minute."""
    gc.freeze()
    yield gc.collect
    gc.unfreeze()
