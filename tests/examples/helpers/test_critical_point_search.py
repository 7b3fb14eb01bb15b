import numpy as np
import pytest

from helpers import critical_point_search as lib


def find(gradient, hessian, start, **options):
    options = {"tolerance": 1e-10, "most_steps": 100} | options
    return lib.find(gradient, hessian, np.array(start, "float64"), **options)


@pytest.mark.parametrize("eigenvalues", [[1.0, 4.0], [-1.0, 4.0], [-1.0, -4.0]])
def test_quadratics_take_few_steps_to_their_critical_point_of_any_index(symmetric, eigenvalues):
    matrix = symmetric(eigenvalues)
    found = find(lambda x: matrix @ (x - [1, 2]), lambda x: matrix, [3.0, -1.0])
    assert found.outcome == lib.CONVERGED
    np.testing.assert_allclose(found.parameters, [1, 2], atol=1e-9)
    np.testing.assert_allclose(found.eigenvalues, sorted(eigenvalues))
    assert len(found.gradient_norms) < 10
    assert found.gradient_norms[-1] <= 1e-10


def test_the_norm_of_the_gradient_falls_at_each_step_and_the_function_may_rise():
    # x^4 / 4 - x^2 / 2 + y^2: a saddle at the origin, minima at x = -1 and 1.
    function = lambda p: p[0] ** 4 / 4 - p[0] ** 2 / 2 + p[1] ** 2
    gradient = lambda p: np.array([p[0] ** 3 - p[0], 2 * p[1]])
    hessian = lambda p: np.diag([3 * p[0] ** 2 - 1, 2.0])
    found = find(gradient, hessian, [0.3, 0.0])
    assert found.outcome == lib.CONVERGED
    np.testing.assert_allclose(found.parameters, [0, 0], atol=1e-9)
    assert function(found.parameters) > function([0.3, 0.0])
    assert np.all(np.diff(found.gradient_norms) < 0)
    assert (found.eigenvalues < 0).sum() == 1


def test_a_minimum_of_the_norm_where_the_gradient_is_not_zero_is_told_apart():
    # g = (1 + x^2, y): no critical point, and the least norm at the origin.
    found = find(
        lambda p: np.array([1 + p[0] ** 2, p[1]]), lambda p: np.diag([2 * p[0], 1.0]), [1.0, 1.0]
    )
    assert found.outcome == lib.FLAT
    assert found.gradient_norms[-1] == pytest.approx(1, abs=1e-3)


def test_steps_run_out_and_where_the_search_stands_is_kept():
    gradient = lambda x: np.tanh(x) + 0.01 * x
    hessian = lambda x: np.diag(1 / np.cosh(x) ** 2 + 0.01)
    short = find(gradient, hessian, [4.0], most_steps=2)
    assert short.outcome == lib.UNFINISHED
    assert len(short.gradient_norms) == 3
    assert short.gradient_norms[-1] == pytest.approx(abs(gradient(short.parameters)[0]))
    assert find(gradient, hessian, [4.0]).outcome == lib.CONVERGED


def test_a_step_onto_values_that_are_not_finite_is_not_taken():
    # The gradient of x - log x, which is not there left of zero.
    gradient = lambda x: np.where(x > 0, 1 - 1 / np.where(x > 0, x, 1), np.nan)
    found = find(gradient, lambda x: np.diag(1 / x**2), [5.0])
    assert found.outcome == lib.CONVERGED
    np.testing.assert_allclose(found.parameters, [1.0])
