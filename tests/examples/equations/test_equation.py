import numpy as np
import pytest

from equations import catalog, equation, points

POISSON = catalog.EQUATIONS["poisson"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((3, 1)), r"`file` must have shape \(rows, 2\).*Received: shape \(3, 1\)"),
        (np.zeros((0, 2)), r"Received: shape \(0, 2\)"),
        ([[0.5, 0.5], [0.5, np.nan]], r"`file` of poisson must be finite. Received: row 1 is"),
        ([[0.5, 1.1], [0.5, -1]], r"must lie in the domain .* row 0 is \[0.5, 1.1\] \(2 such rows"),
    ],
)
def test_points_that_are_wrong_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        equation.check_points(POISSON, "file", np.array(bad))


def test_good_points_are_returned_in_double_precision():
    given = np.array([[0, 1], [0.5, 0.25]], "float32")
    found = equation.check_points(POISSON, "file", given)
    assert found.dtype == "float64"
    np.testing.assert_array_equal(found, given)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"edge": 1.0}, "must be of terms of the loss: interior, boundary. Received: 'edge'"),
        ({"boundary": 0.0}, "above zero. Received: boundary=0.0"),
        ({"interior": -1.0}, "above zero. Received: interior=-1.0"),
        ({"interior": np.nan}, "must be finite"),
    ],
)
def test_weights_that_are_wrong_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        equation.check_weights(POISSON.terms, weights)


def test_weights_by_default():
    found = equation.check_weights(POISSON.terms, {"boundary": 3})
    assert found == {"interior": 0.5, "boundary": 3.0}


def test_points_of_edges_faces_and_grids():
    generator = np.random.default_rng(0)
    edge = points.edge((0, -1), (1, 1), (0, 1))(generator, 400)
    on = np.stack([edge[:, 0] == 0, edge[:, 0] == 1, edge[:, 1] == -1, edge[:, 1] == 1])
    assert on.any(axis=0).all()
    assert (on.sum(axis=1) > 60).all()
    assert set(points.edge((0, -1), (1, 1), (1,))(generator, 50)[:, 1]) == {-1.0, 1.0}
    face = points.face((0, -1), (1, 1), 0, 0.25)(generator, 50)
    assert set(face[:, 0]) == {0.25}
    draw = points.grid((np.arange(2), np.arange(3)))
    assert len({tuple(row) for row in draw(generator, 6)}) == 6
    assert draw(generator, 7).shape == (7, 2)
