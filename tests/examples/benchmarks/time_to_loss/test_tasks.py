"""Tests for examples/benchmarks/time_to_loss/tasks.py."""

import keras
import numpy as np
import pytest
import sklearn.datasets

import keras_sfn
from benchmarks.time_to_loss import tasks


@pytest.fixture
def default_precision():
    """Puts Keras's default precision back."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


def images(name, split, data_dir, download):
    """Stands in for fashion_mnist."""
    assert (name, split, data_dir, download) == ("fashion_mnist", "train", "there", True)
    return np.random.default_rng(0).uniform(size=(60, 28, 28, 1)).astype("float32")


def small(name, monkeypatch):
    monkeypatch.setattr(tasks.image_data, "load_images", images)
    return {
        "digits": lambda: tasks.digits_autoencoder((24, 6), rows=80),
        "fashion": lambda: tasks.fashion_autoencoder((16, 4), 40, "there", download=True),
        "adding": lambda: tasks.adding(length=6, units=8, rows=80),
        "lstm": lambda: tasks.adding(length=6, units=4, rows=80, cell="lstm"),
        "gru": lambda: tasks.adding(length=6, units=4, rows=80, cell="gru"),
        "poisson": lambda: tasks.poisson(rows=60, hidden=(8, 8)),
    }[name]()


# One of each kind of network; the others are built below.
@pytest.mark.parametrize("name", ["digits", "gru", "poisson"])
@pytest.mark.usefixtures("default_precision")
def test_ours_lowers_the_loss_in_fit(name, monkeypatch):
    task = small(name, monkeypatch)
    task.set_precision()
    model = task.build(0)
    model.compile(keras_sfn.SaddleFreeNewton(jit_compile=False), "mse")
    before = model.evaluate(task.inputs, task.targets, verbose=0)
    batch = {"batch_size": task.rows, "verbose": 0}
    model.fit(task.inputs, task.targets, epochs=20, **batch)
    assert model.evaluate(task.inputs, task.targets, verbose=0) < 0.95 * before
    assert model.optimizer.last_step.outcome == "accepted"


@pytest.mark.parametrize("name", ["digits", "fashion", "adding", "lstm", "gru", "poisson"])
@pytest.mark.usefixtures("default_precision")
def test_weights_are_those_of_the_seed_and_rows_do_not_depend_on_it(name, monkeypatch):
    task = small(name, monkeypatch)
    task.set_precision()
    first, again, other = (task.build(seed).get_weights() for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[0], other[0])
    same = small(name, monkeypatch)
    np.testing.assert_array_equal(task.inputs, same.inputs)
    np.testing.assert_array_equal(task.targets, same.targets)


def widths_and_activations(model):
    return [(layer.units, layer.activation.__name__) for layer in model.layers]


def test_the_digits_net_is_the_one_of_the_trials():
    task = tasks.digits_autoencoder()
    np.testing.assert_allclose(task.inputs, sklearn.datasets.load_digits().data / 16)
    assert task.targets is task.inputs
    model = task.build(0)
    hidden = [(width, "tanh") for width in (256, 128, 64)]
    linear = [(10, "linear"), (64, "linear")]
    assert widths_and_activations(model) == [*hidden, linear[0], *hidden[::-1], linear[1]]
    assert model.count_params() == 116_938


def test_the_paper_net_ends_in_a_sigmoid(monkeypatch):
    monkeypatch.setattr(tasks.image_data, "load_images", images)
    task = tasks.fashion_autoencoder(rows=50, data_dir="there", download=True)
    assert task.inputs.shape == (50, 784)
    layers = widths_and_activations(task.build(0))
    assert [width for width, _ in layers] == [1000, 500, 250, 30, 250, 500, 1000, 784]
    assert [function for _, function in layers] == [
        *["tanh"] * 3,
        "linear",
        *["tanh"] * 3,
        "sigmoid",
    ]


def test_to_say_one_has_the_error_that_is_stated():
    task = tasks.adding(rows=20_000)
    assert np.mean((task.targets - 1) ** 2) == pytest.approx(1 / 6, rel=0.03)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"needs float64 as Keras's default\. Received: float32"):
        tasks.poisson(rows=4).build(0)


@pytest.mark.usefixtures("default_precision")
def test_the_figure_of_the_poisson_task_is_the_error_of_the_solution():
    task = tasks.poisson(rows=200, hidden=(16,))
    task.set_precision()
    model = task.build(0)
    model.compile(keras_sfn.SaddleFreeNewton(krylov_dimension=40, jit_compile=False), "mse")
    assert task.error(model) == pytest.approx(1, abs=0.1)
    model.fit(task.inputs, task.targets, batch_size=200, epochs=15, verbose=0)
    assert task.error(model) < 0.1
