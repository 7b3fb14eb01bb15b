import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn

EIGENVALUES = np.concatenate([[-3.0, -0.5], np.linspace(0.01, 0.1, 20), [5.0, 9.0]])
FUNCTIONS = [keras_sfn.estimate_trace, keras_sfn.estimate_diagonal]


def test_a_diagonal_matrix_is_exact_with_one_probe():
    scales = tf.constant([1.0, -2.0, 3.0, 0.0])
    point = keras.Variable([1.0, 1.0, 1.0, 1.0])
    hessian = keras_sfn.HessianOperator(lambda: tf.reduce_sum(scales * point.value**2), [point])
    trace = keras_sfn.estimate_trace(hessian, num_probes=1)
    assert trace.value == pytest.approx(4)
    assert np.isnan(trace.standard_error)
    diagonal = keras_sfn.estimate_diagonal(hessian, num_probes=1)
    np.testing.assert_allclose(diagonal.value, [2, -4, 6, 0])
    assert np.isnan(diagonal.standard_error).all()
    np.testing.assert_allclose(keras_sfn.estimate_diagonal(hessian).standard_error, 0, atol=1e-6)


def test_estimates_lie_within_their_errors(make_hessian):
    hessian, matrix = make_hessian(EIGENVALUES)
    trace = keras_sfn.estimate_trace(hessian, num_probes=200)
    assert abs(trace.value - EIGENVALUES.sum()) < 3 * trace.standard_error
    diagonal = keras_sfn.estimate_diagonal(hessian, num_probes=200)
    deviations = (diagonal.value - np.diag(matrix)) / diagonal.standard_error
    assert np.abs(deviations).max() < 4
    assert np.sqrt(np.mean(deviations**2)) == pytest.approx(1, abs=0.4)
    # The sum of the diagonal's entries: the same vectors, the same trace.
    assert diagonal.value.sum() == pytest.approx(trace.value)


def test_standard_errors_are_those_of_theory(make_hessian):
    hessian, matrix = make_hessian(EIGENVALUES)
    squares = (matrix - np.diag(np.diag(matrix))) ** 2
    trace = keras_sfn.estimate_trace(hessian, num_probes=200)
    assert trace.standard_error == pytest.approx(np.sqrt(2 * squares.sum() / 200), rel=0.2)
    diagonal = keras_sfn.estimate_diagonal(hessian, num_probes=200)
    np.testing.assert_allclose(
        diagonal.standard_error, np.sqrt(squares.sum(axis=1) / 200), rtol=0.3
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_seeds(make_hessian, function):
    hessian, _ = make_hessian(EIGENVALUES)
    first, again, other = (function(hessian, num_probes=3, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.value, again.value)
    assert not np.allclose(first.value, other.value)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_bad_arguments_are_named(make_hessian, function):
    hessian, _ = make_hessian([1.0, 2.0])
    with pytest.raises(ValueError, match="`num_probes` must be an integer >= 1"):
        function(hessian, num_probes=0)
    with pytest.raises(ValueError, match="`seed` must be an integer >= 0"):
        function(hessian, seed=-1)
    with pytest.raises(TypeError, match=r"`hessian` must be a `keras_sfn\.HessianOperator`"):
        function(np.eye(3))
