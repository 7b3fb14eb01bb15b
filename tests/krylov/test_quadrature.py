import numpy as np
import pytest

from keras_sfn.krylov import quadrature

# NumPy has `trapezoid` since its second version.
integral = lambda values, grid: np.sum(values, axis=-1) * (grid[1] - grid[0])
EIGENVALUES = np.concatenate([[-3.0, -0.5], np.linspace(0.01, 0.1, 20), [5.0, 9.0]])


def test_the_quadrature_of_a_whole_matrix_is_its_spectrum(symmetric):
    matrix = symmetric(EIGENVALUES)
    nodes, weights = quadrature.gauss(matrix)
    np.testing.assert_allclose(nodes, EIGENVALUES, atol=1e-12)
    # As the first unit vector sees it.
    for power in range(5):
        expected = np.linalg.matrix_power(matrix, power)[0, 0]
        assert weights @ nodes**power == pytest.approx(expected, rel=1e-9)


def test_a_density_has_the_weights_and_the_width():
    grid = np.linspace(-4, 8, 4001)
    nodes, weights = np.array([[0.0, 5.0], [1.0, 2.0]]), np.array([[0.25, 0.75], [0.5, 0.5]])
    densities = quadrature.smoothed(nodes, weights, grid, 0.2)
    np.testing.assert_allclose(integral(densities, grid), 1, atol=1e-6)
    np.testing.assert_allclose(
        integral(densities * grid, grid), (nodes * weights).sum(axis=1), atol=1e-6
    )
    near_zero = np.abs(grid) < 1.5
    variance = integral(densities[0, near_zero] * grid[near_zero] ** 2, grid[near_zero]) / 0.25
    assert variance == pytest.approx(0.2**2, rel=1e-3)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [([-1.0, 3.0], 4.0), ([2.0, 2.0], 2.0), ([-2.0, -2.0], 2.0), ([0.0, 0.0], 1.0)],
)
def test_a_spread_is_never_zero(nodes, expected):
    assert quadrature.spread(np.array(nodes)) == expected
