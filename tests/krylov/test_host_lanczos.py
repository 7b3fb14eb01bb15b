import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.krylov import host_lanczos, lanczos

EIGENVALUES = np.concatenate([[-3.0, -0.5], np.linspace(0.01, 0.1, 20), [5.0, 9.0]])


def run(matrix, start, steps, seed=0):
    return host_lanczos.tridiagonalise(
        lambda vector: matrix @ vector, start, steps, np.random.default_rng(seed)
    )


def test_the_matrix_is_that_of_lanczos(symmetric):
    matrix, start = symmetric(EIGENVALUES), np.random.default_rng(1).normal(size=24)
    expected = lanczos.lanczos(lambda v: tf.linalg.matvec(matrix, v), tf.constant(start), 6)
    found = run(matrix, start, 6)
    np.testing.assert_allclose(found, expected.projected, atol=1e-11)
    np.testing.assert_array_equal(found, found.T)
    assert np.abs(np.triu(found, 2)).max() < 1e-12


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_ritz_value_comes_twice(with_outliers, dtype):
    """Without reorthogonalisation large ones do, long before 120 steps."""
    matrix, start = with_outliers
    values = np.linalg.eigvalsh(run(matrix.astype(dtype), start.astype(dtype), 120))
    eigenvalues = np.linalg.eigvalsh(matrix)
    tolerance = 1e-9 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(values[-8:], eigenvalues[-8:], rtol=tolerance)


@pytest.mark.parametrize("eigenvalues", [[2.0] * 5, [0.0] * 5, [1.0, 1.0, 1.0, 4.0, 4.0]])
def test_an_exhausted_space_is_gone_on_from_a_random_vector(symmetric, eigenvalues):
    found = run(symmetric(eigenvalues), np.ones(5), 5)
    np.testing.assert_allclose(np.linalg.eigvalsh(found), eigenvalues, atol=1e-12)


def test_the_start_alone_counts_in_the_quadrature_of_an_exhausted_space():
    """Rows after a breakdown are not linked to those before it."""
    matrix = np.diag([1.0, 2.0, 5.0, 7.0])
    found = run(matrix, np.array([1.0, 1.0, 0.0, 0.0]), 4)
    nodes, vectors = np.linalg.eigh(found)
    np.testing.assert_allclose(nodes, [1, 2, 5, 7], atol=1e-12)
    np.testing.assert_allclose(vectors[0] ** 2, [0.5, 0.5, 0, 0], atol=1e-12)


def test_products_that_are_not_finite_leave_nan():
    found = run(np.diag([1.0, np.nan]), np.ones(2), 2)
    assert np.isnan(found).all()
