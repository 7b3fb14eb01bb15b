import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.newton import subspaces
from keras_sfn.preconditioner import preconditioned_space

SIZE = 8


def half_the_diagonal(matrix, previous):
    half = np.abs(np.diag(matrix)) / 2
    along = np.sum(half * previous**2) / np.sum(previous**2)
    return preconditioned_space.ShiftedPreconditioner(
        lambda vector, shift: vector / (half + shift),
        lambda vector, shift: vector * (half + shift),
        tf.constant(along),
        tf.constant(0.1, tf.float64),
        tf.constant(False),
        tf.constant(1.6, tf.float64),
    )


def span_of(kind, matrix, previous):
    alone = lambda value: value
    matvec = lambda vector: tf.linalg.matvec(tf.constant(matrix), vector)
    if kind == "whole":
        return subspaces.whole_space(lambda: tf.constant(matrix), alone)
    if kind == "krylov":
        return subspaces.krylov_space(matvec, 3, True, alone)
    preconditioner = half_the_diagonal(matrix, previous)
    return preconditioned_space.preconditioned_space(
        matvec, 3, tf.constant(3), preconditioner, alone
    )


@pytest.mark.parametrize("kind", ["whole", "krylov", "preconditioned"])
def test_coordinates_are_those_along_the_ritz_vectors(kind, symmetric):
    matrix = symmetric(np.linspace(-2, 5, SIZE))
    gradient, previous = np.random.default_rng(0).normal(size=(2, SIZE))
    start = subspaces.Start(
        tf.constant(gradient),
        None if kind == "whole" else tf.constant(previous),
        tf.constant(0.1, tf.float64),
        tf.constant([0, 0]),
    )
    subspace = span_of(kind, matrix, previous)(start)
    count = SIZE if kind == "whole" else 4
    rows = np.stack([subspace.expand(tf.constant(axis)) for axis in np.eye(count)])
    metric = np.eye(SIZE)
    if kind == "preconditioned":
        metric = np.diag(np.abs(np.diag(matrix)) / 2 + 0.1)
    np.testing.assert_allclose(rows @ metric @ rows.T, np.eye(count), atol=1e-10)
    np.testing.assert_allclose(rows @ matrix @ rows.T, np.diag(subspace.ritz.values), atol=1e-9)
    np.testing.assert_allclose(subspace.reduce(tf.constant(gradient)), rows @ gradient, atol=1e-10)
    np.testing.assert_allclose(subspace.gradient, rows @ gradient, atol=1e-10)
    assert (subspace.shift is None) == (kind != "preconditioned")


def test_the_dimension_counts_the_previous_step_and_no_more_than_all():
    assert subspaces.dimension(3, 100, True) == 4
    assert subspaces.dimension(3, 100, False) == 3
    assert subspaces.dimension(3, 2, True) == 2
    assert subspaces.dimension(None, 50, False) == 50
