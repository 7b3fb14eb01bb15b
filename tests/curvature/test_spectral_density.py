import os
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.krylov import quadrature

EIGENVALUES = np.concatenate([[-3.0, -0.5], np.linspace(0.01, 0.1, 20), [5.0, 9.0]])


@pytest.fixture
def network_of(digits, float64):
    """Builds the Hessian of a classifier of digits."""

    def make(units, rows):
        keras.utils.set_random_seed(2)
        model = keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(units, activation="tanh"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(loss="sparse_categorical_crossentropy")
        x, y = digits
        return keras_sfn.HessianOperator.from_model(model, x[:rows], y[:rows])

    return make


def exact(eigenvalues, spectrum):
    """Returns the density of all eigenvalues, smoothed alike."""
    equal = np.full((1, len(eigenvalues)), 1 / len(eigenvalues))
    return quadrature.smoothed(eigenvalues[None], equal, spectrum.grid, spectrum.width)[0]


def integral(values, grid):
    # NumPy has `trapezoid` since its second version.
    return np.sum(values) * (grid[1] - grid[0])


def distance(first, second, grid):
    return integral(np.abs(first - second), grid)


@pytest.mark.parametrize(
    ("units", "rows"),
    [(4, 60), pytest.param(40, 60, marks=pytest.mark.slow)],
    ids=["310 parameters", "3,010 parameters"],
)
def test_densities_of_networks_are_those_of_all_eigenvalues(network_of, units, rows):
    hessian = network_of(units, rows)
    eigenvalues = np.linalg.eigvalsh(hessian.to_dense().numpy())
    spectrum = keras_sfn.spectral_density(hessian, num_probes=10)
    assert spectrum.curvature_report
    expected = exact(eigenvalues, spectrum)
    assert integral(spectrum.density, spectrum.grid) == pytest.approx(1, abs=1e-4)
    assert integral(expected, spectrum.grid) == pytest.approx(1, abs=1e-4)
    assert distance(spectrum.density, expected, spectrum.grid) < 0.05
    # The mean error is about one standard error.
    error = integral(spectrum.standard_error, spectrum.grid)
    assert distance(spectrum.density, expected, spectrum.grid) < 2 * error
    # Ends of the spectrum have converged.
    np.testing.assert_allclose(
        [spectrum.nodes.min(), spectrum.nodes.max()], eigenvalues[[0, -1]], rtol=1e-6
    )


def test_few_steps_integrate_low_powers_exactly(make_hessian):
    hessian, matrix = make_hessian(EIGENVALUES)
    spectrum = keras_sfn.spectral_density(hessian, num_steps=6, num_probes=3, seed=1)
    assert spectrum.nodes.shape == spectrum.weights.shape == (3, 6)
    np.testing.assert_allclose(spectrum.weights.sum(axis=1), 1)
    for probe in range(3):
        v = np.random.default_rng([1, probe]).normal(size=len(matrix))
        for power in range(12):  # Exact up to 2 k - 1.
            moment = v @ np.linalg.matrix_power(matrix, power) @ v / (v @ v)
            found = spectrum.weights[probe] @ spectrum.nodes[probe] ** power
            assert found == pytest.approx(moment, rel=1e-8)


def test_all_steps_give_all_eigenvalues_and_the_default_is_that_in_small_models(make_hessian):
    hessian, _ = make_hessian(EIGENVALUES)
    spectrum = keras_sfn.spectral_density(hessian)
    np.testing.assert_allclose(spectrum.nodes, np.tile(EIGENVALUES, (5, 1)), atol=1e-8)


def test_standard_errors_are_those_of_the_mean(make_hessian):
    hessian, _ = make_hessian(EIGENVALUES)
    options = {"grid": np.linspace(-4, 10, 200), "width": 0.3}
    many = keras_sfn.spectral_density(hessian, num_probes=80, **options)
    expected = exact(EIGENVALUES, many)
    deviations = (many.density - expected) / many.standard_error
    assert np.abs(deviations).max() < 4
    few = keras_sfn.spectral_density(hessian, num_probes=20, **options)
    ratio = np.median(few.standard_error / many.standard_error)
    assert ratio == pytest.approx(2, rel=0.3)
    one = keras_sfn.spectral_density(hessian, num_probes=1, **options)
    assert np.isnan(one.standard_error).all()
    assert np.isfinite(one.density).all()


def test_the_fraction_below_a_number(make_hessian):
    hessian, _ = make_hessian(EIGENVALUES)
    value, error = keras_sfn.spectral_density(hessian, num_probes=40).fraction_below(-0.1)
    assert 0 < error < 0.02
    assert abs(value - 2 / 24) < 3 * error


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(make_hessian):
    hessian, _ = make_hessian(EIGENVALUES)
    first, again, other = (
        keras_sfn.spectral_density(hessian, num_steps=5, num_probes=2, seed=seed)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.density, again.density)
    assert not np.allclose(first.nodes, other.nodes)
    # Probes of one spectrum differ too.
    assert not np.allclose(first.nodes[0], first.nodes[1])


def test_a_hessian_of_zeros_has_a_density():
    point = keras.Variable([1.0, 2.0])
    hessian = keras_sfn.HessianOperator(lambda: tf.reduce_sum(point.value), [point])
    spectrum = keras_sfn.spectral_density(hessian)
    assert integral(spectrum.density, spectrum.grid) == pytest.approx(1, abs=1e-5)
    assert np.abs(spectrum.nodes).max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_probes": 0}, "`num_probes` must be an integer >= 1"),
        ({"num_steps": 0}, "`num_steps` must be an integer >= 1"),
        ({"num_steps": 25}, r"`num_steps` must be at most n.*num_steps=25. Use num_steps=24"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"width": 0.0}, "`width` must be a finite number > 0"),
        ({"grid": []}, "`grid` must be a vector of finite numbers"),
        ({"grid": [0.0, np.nan]}, "`grid` must be a vector of finite numbers"),
        ({"grid": [[0.0, 1.0]]}, "`grid` must be a vector of finite numbers"),
        ({"grid": [1.0, 0.0]}, "`grid` must increase"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(make_hessian, options, message):
    hessian, _ = make_hessian(EIGENVALUES)
    with pytest.raises(ValueError, match=message):
        keras_sfn.spectral_density(hessian, **options)


def test_a_basis_that_does_not_fit_into_memory_is_refused(make_hessian, monkeypatch):
    hessian, _ = make_hessian(EIGENVALUES)
    monkeypatch.setattr(os, "sysconf", lambda name: 24)
    with pytest.raises(MemoryError, match="A Krylov basis of 3 vectors of 24 parameters takes"):
        keras_sfn.spectral_density(hessian, num_steps=3)


def test_a_model_in_the_place_of_an_operator_is_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(TypeError, match=r"Received: a Sequential.*from_model\(model, x, y\)"):
        keras_sfn.spectral_density(model)


def test_products_that_are_not_finite_are_named():
    point = keras.Variable([0.0, 1.0])
    hessian = keras_sfn.HessianOperator(lambda: tf.reduce_sum(point.value**1.5), [point])
    for function in (
        keras_sfn.spectral_density,
        keras_sfn.estimate_trace,
        keras_sfn.estimate_diagonal,
        keras_sfn.top_eigenpairs,
    ):
        with pytest.raises(ValueError, match="Products with the Hessian must be finite"):
            function(hessian)


@tf.custom_gradient
def stops_its_slope(x):
    y = tf.tanh(x)
    return y, lambda g: g * tf.raw_ops.StopGradient(input=1 - y * y)


def test_wrong_curvature_is_said_and_right_curvature_is_not():
    point = keras.Variable([1.0, -2.0, 0.5])
    right, wrong = (
        keras_sfn.HessianOperator(lambda f=f: tf.reduce_sum(f(point.value) ** 2), [point])
        for f in (tf.tanh, stops_its_slope)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert keras_sfn.spectral_density(right).curvature_report
    for function in (
        keras_sfn.spectral_density,
        keras_sfn.estimate_trace,
        keras_sfn.estimate_diagonal,
        keras_sfn.top_eigenpairs,
    ):
        with pytest.warns(RuntimeWarning, match="curvature of 1 of 1 variables is wrong"):
            found = function(wrong)
        if function is keras_sfn.spectral_density:
            assert found.curvature_report.wrong == (point.path,)
