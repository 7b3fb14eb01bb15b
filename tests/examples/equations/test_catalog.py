"""Every equation: its solution satisfies its terms, in soft and hard form."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from equations import allen_cahn, catalog, jets

EQUATIONS = catalog.EQUATIONS
NAMES = list(EQUATIONS)
# Where differences of the solution resolve it: before the shock, and after the first layer of time
# in which the kink of the initial values at the ends is smoothed.
SMOOTH = {"burgers": lambda p: p[:, 0] < 0.25, "allen_cahn": lambda p: abs(p[:, 1]) < 0.8}


def differences(solution, length=2e-3):
    """The field of a NumPy function, by central differences of fourth order."""

    def field(points, first=(), second=()):
        points = np.asarray(points)
        value = solution(points)
        firsts, seconds = {}, {}
        for i in {*first, *second}:
            unit = length * np.eye(points.shape[1])[i]
            far2, far1, near1, near2 = (solution(points + j * unit) for j in (-2, -1, 1, 2))
            firsts[i] = (far2 - 8 * far1 + 8 * near1 - near2) / (12 * length)
            seconds[i] = (-far2 + 16 * far1 - 30 * value + 16 * near1 - near2) / (12 * length**2)
        return jets.Jet(value, firsts, {i: seconds[i] for i in second})

    return field


def inner_points(equation, term, rows=200):
    points = term.draw(np.random.default_rng(0), rows)
    width = np.array(equation.upper) - np.array(equation.lower)
    if term.name == "interior":
        points = np.clip(points, equation.lower + 0.02 * width, equation.upper - 0.02 * width)
        points = points[SMOOTH.get(equation.name, lambda p: p[:, 0] >= 0)(points)]
    return points


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_satisfies_the_equation_and_its_conditions(name):
    equation = EQUATIONS[name]
    solution = differences(equation.solution)
    disturbed = differences(lambda p: equation.solution(p) + 0.1 * np.cos(0.7 * p.sum(1))[:, None])
    for term in equation.terms:
        if term.name in ("at_rest",) or (term.name == "periodic" and name == "allen_cahn"):
            continue  # Differences would leave the domain of the reference.
        points = inner_points(equation, term)
        residual = np.abs(term.residual(solution, points)).max()
        scale = np.abs(term.residual(disturbed, points)).max()
        assert residual < 1e-3 * scale, term.name


def test_the_wave_starts_at_rest_and_the_phases_are_periodic():
    [at_rest] = [term for term in EQUATIONS["wave"].terms if term.name == "at_rest"]
    points = at_rest.draw(np.random.default_rng(0), 20)
    exact = differences(EQUATIONS["wave"].solution)
    np.testing.assert_allclose(at_rest.residual(exact, points), 0, atol=1e-9)
    phases = EQUATIONS["allen_cahn"].solution
    time = np.linspace(0, 1, 11)
    left, right = (phases(np.stack([time, np.full(11, x)], axis=1)) for x in (-1.0, 1.0))
    np.testing.assert_allclose(left, right, atol=1e-12)


def test_the_reference_of_allen_cahn_has_converged():
    fine, found = allen_cahn.series(2048, 800, 4), allen_cahn.series()
    difference = fine.copy()
    difference[:, : found.shape[1]] -= found
    # Its root mean square over space, by Parseval.
    size = (np.abs(difference) ** 2).sum(axis=1) ** 0.5
    assert size[0] < 1e-4  # the kink
    assert size[20:].max() < 1e-7
    start = EQUATIONS["allen_cahn"].solution(np.array([[1e-9, 0.3], [0.0, -1.0]]))
    np.testing.assert_allclose(start[:, 0], [0.09 * np.cos(0.3 * np.pi), -1], atol=1e-6)


def test_the_reference_of_burgers_is_that_of_the_literature():
    # The slope at the shock of Basdevant et al. 1986: 152.00516 at t = 1.6037 / pi.
    time = 1.6037 / np.pi
    length = 1e-4
    ends = EQUATIONS["burgers"].solution(np.array([[time, -length], [time, length]]))
    assert float(ends[0, 0] - ends[1, 0]) / (2 * length) == pytest.approx(152.005, abs=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_the_hard_form_meets_the_implied_conditions_whatever_the_network_is(name):
    equation = EQUATIONS[name]
    field = equation.field(lambda p: keras.ops.cos(p[:, :1] * p[:, 1:] + 1), "hard")
    implied = [term for term in equation.terms if term.implied]
    assert implied
    assert {t.name for t in equation.terms} - {t.name for t in implied} == {
        t.name for t in equation.terms_of("hard")
    }
    for term in implied:
        points = tf.constant(term.draw(np.random.default_rng(0), 50))
        np.testing.assert_allclose(term.residual(field, points), 0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_points_lie_in_the_domain(name):
    from equations import equation as equation_lib

    for term in EQUATIONS[name].terms:
        points = term.draw(np.random.default_rng(1), term.points)
        assert points.shape == (term.points, 2)
        equation_lib.check_points(EQUATIONS[name], term.name, points)
