"""The stated solutions solve the equations of the suite, and their conditions."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.suite import entry as entry_lib
from benchmarks.suite import pde
from benchmarks.suite.tasks import burgers, convection, heat, helmholtz, poisson


@pytest.mark.parametrize("task", [convection, heat, helmholtz, poisson], ids=lambda t: t.__name__)
def test_the_solution_leaves_no_residual(task):
    inputs = task.entry(entry_lib.Form(quick=True)).task.inputs
    inside = tf.constant(inputs[0], tf.float64)
    # What the terms come to without the equation's own sum.
    terms = pde.derivatives(task.exact, inside)
    size = np.abs(terms.first).max() + np.abs(terms.second).max()
    assert np.abs(task.equation(task.exact, inside)).max() < 1e-10 * size


@pytest.mark.parametrize("task", [helmholtz, poisson], ids=lambda t: t.__name__)
def test_the_solution_is_zero_on_the_edge(task):
    edge = task.entry(entry_lib.Form(quick=True)).task.inputs[1]
    np.testing.assert_allclose(task.exact(edge), 0, atol=2e-6)


def test_the_solution_of_the_heat_equation_is_zero_at_the_ends():
    ends = heat.entry(entry_lib.Form(quick=True)).task.inputs[2]
    np.testing.assert_allclose(heat.exact(ends), 0, atol=1e-6)


def test_convection_is_periodic():
    ends = convection.entry(entry_lib.Form(quick=True)).task.inputs[2]
    np.testing.assert_allclose(convection.periodic(convection.exact, ends), 0, atol=1e-4)


def test_the_solution_of_burgers_equation_solves_it():
    t, x = np.meshgrid(np.linspace(0.05, 0.95, 10), np.linspace(-0.9, -0.1, 9))
    at = np.stack([t.ravel(), x.ravel()], axis=-1)
    h = 1e-4

    def moved(by_t, by_x):
        return burgers.exact(at + np.array([by_t, by_x]))

    u = moved(0, 0)
    by_t = (moved(h, 0) - moved(-h, 0)) / (2 * h)
    by_x = (moved(0, h) - moved(0, -h)) / (2 * h)
    by_xx = (moved(0, h) - 2 * u + moved(0, -h)) / h**2
    np.testing.assert_allclose(by_t + u * by_x, 0.01 / np.pi * by_xx, atol=1e-5)


def test_the_solution_of_burgers_equation_begins_with_a_sine_and_becomes_steep():
    x = np.linspace(-1, 1, 9)[:, None]
    np.testing.assert_allclose(burgers.exact(np.hstack([0 * x, x])), -np.sin(np.pi * x), atol=1e-12)
    # The slope at the shock that Basdevant et al. give for t = 1.6037 / pi.
    h = 1e-5
    ends = burgers.exact(np.array([[1.6037 / np.pi, h], [1.6037 / np.pi, -h]]))
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(-152.005, rel=1e-4)
