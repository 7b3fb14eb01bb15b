import numpy as np
import pytest

from equations import catalog
from helpers import pde_problem

POISSON = catalog.EQUATIONS["poisson"]


def problem(**settings):
    settings = {"points": {"interior": 30, "boundary": 8}, "evaluation_points": 50} | settings
    return pde_problem.Problem(POISSON, pde_problem.Settings(hidden=(5,), **settings))


def test_the_loss_is_the_sum_of_weighted_means():
    one, other = problem(), problem(weights={"interior": 1.0, "boundary": 2.0})
    points = one.draw()
    assert [tuple(p.shape) for p in points] == [(30, 2), (8, 2)]
    boundary = float(np.mean(one.network(points[1]).numpy() ** 2))
    difference = float(other.loss(points)) - 2 * float(one.loss(points))
    assert difference == pytest.approx(boundary, rel=1e-9)


def test_hard_conditions_leave_their_terms_out_and_hold():
    hard = problem(conditions="hard")
    assert [term.name for term in hard.terms] == ["interior"]
    edge = POISSON.terms[1].draw(np.random.default_rng(0), 20)
    np.testing.assert_allclose(hard.values(edge), 0, atol=1e-15)


def test_points_are_drawn_anew_and_a_seed_repeats_them():
    first = problem()
    one, two = first.draw()[0], first.draw()[0]
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(problem().draw()[0], one)
    given = np.array([[0.25, 0.5], [0.5, 0.5]])
    np.testing.assert_array_equal(problem(interior=given).draw()[0], given)


def test_errors_are_those_of_the_solution():
    found = problem(conditions="hard")
    for variable in found.network.trainable_variables:
        variable.assign(0 * variable)
    rms, relative = found.errors()
    # The network is zero, and the mean of sin^2 sin^2 is a quarter.
    assert relative == pytest.approx(1)
    assert rms == pytest.approx(0.5, abs=0.15)


def test_precision():
    assert problem(dtype="float32").draw()[0].dtype == "float32"
    assert problem().network.trainable_variables[0].dtype == "float64"
