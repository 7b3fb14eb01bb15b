"""Ritz values and weights are the quadrature that they are said to be."""

import numpy as np
import pytest
import tensorflow as tf

from helpers import spectrum

EIGENVALUES = np.concatenate([[-3.0, -0.5], np.linspace(0.01, 0.1, 20), [5.0, 9.0]])


def test_all_steps_give_all_eigenvalues(make_hessian):
    hessian, _ = make_hessian(EIGENVALUES)
    found = spectrum.ritz_spectrum(hessian, 100, 0, "test")
    np.testing.assert_allclose(found.values, EIGENVALUES, atol=1e-8)
    assert found.count_below(0) == 2
    assert found.count_below(-1) == 1
    assert found.weights.sum() == pytest.approx(1)
    assert found.fraction_below(0) == pytest.approx(found.weights[:2].sum())


@pytest.mark.parametrize("seed", [0, 1])
def test_few_steps_integrate_low_powers_exactly(make_hessian, seed):
    hessian, matrix = make_hessian(EIGENVALUES)
    found = spectrum.ritz_spectrum(hessian, 6, seed, "test")
    assert found.values.shape == found.weights.shape == (6,)
    v = tf.random.stateless_normal((len(matrix),), (seed, 0), dtype="float64").numpy()
    for power in range(12):  # exact up to 2 k - 1
        exact = v @ np.linalg.matrix_power(matrix, power) @ v / (v @ v)
        assert found.weights @ found.values**power == pytest.approx(exact, rel=1e-8)


def test_extreme_values_lie_inside(make_hessian):
    hessian, _ = make_hessian(EIGENVALUES)
    found = spectrum.ritz_spectrum(hessian, 8, 0, "test")
    assert -3 - 1e-9 <= found.values[0] < -2.99
    assert 8.99 < found.values[-1] <= 9 + 1e-9
