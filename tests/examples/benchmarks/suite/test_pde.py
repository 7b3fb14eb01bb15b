"""Tests for examples/benchmarks/suite/pde.py."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.suite import pde

BOX = pde.Box((0, -1), (2, 1))


def cubic(points):
    t, x = points[:, :1], points[:, 1:]
    return t * x**3 + t**2


def test_derivatives_are_those_of_the_function():
    points = tf.constant([[1.0, 2.0], [3.0, -1.0]])
    found = pde.derivatives(cubic, points)
    np.testing.assert_allclose(found.value[:, 0], [9, 6])
    np.testing.assert_allclose(found.first, [[8 + 2, 12], [-1 + 6, 9]])
    np.testing.assert_allclose(found.second, [[2, 12], [2, -18]])
    np.testing.assert_allclose(pde.derivatives(cubic, points, (1,)).second, [[12], [-18]])


def test_residuals_stand_side_by_side_each_at_its_points():
    inside, start = np.ones((3, 2), "float32"), np.zeros((3, 2), "float32")
    residuals = [
        lambda network, points: points[:, :1] + 1,
        pde.equals(lambda points: 5 + points[:, :1]),
    ]
    model = pde.Collocation([4], residuals)
    found = model((inside, start))
    np.testing.assert_allclose(found[:, 0], 2)
    np.testing.assert_allclose(found[:, 1:], model.network(start) - 5, rtol=1e-6)
    assert model.count_params() == 2 * 4 + 4 + 4 + 1


def test_points_lie_where_they_should():
    points = pde.Points(BOX, 200)
    inside = points.inside()
    assert inside.shape == (200, 2)
    assert inside.dtype == np.float32
    assert (inside > BOX.lower).all()
    assert (inside < BOX.upper).all()
    assert set(points.on_sides(0, [False])[:, 0]) == {0}
    assert set(points.on_sides(1)[:, 1]) == {-1, 1}
    edge = points.on_edge()
    on_side = [(edge[:, axis] == corner[axis]) for axis in (0, 1) for corner in BOX]
    assert np.any(on_side, axis=0).all()
    assert np.any(on_side, axis=1).all()


@pytest.mark.parametrize(("scale", "error"), [(1.0, 0.0), (1.5, 0.5), (0.0, 1.0)])
def test_the_error_is_relative(scale, error):
    network = lambda grid: tf.constant(scale * cubic(grid))
    assert pde.relative_error(network, cubic, BOX) == pytest.approx(error, abs=1e-6)
