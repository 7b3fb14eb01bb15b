import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.newton import damping as damping_lib
from keras_sfn.newton import subspaces
from keras_sfn.preconditioner import subspace as preconditioned

SIZE = 8


def settings(**kwargs):
    defaults = {"damping": damping_lib.AdaptiveDamping(), "krylov_dimension": 3}
    return subspaces.Settings(**(defaults | kwargs))


def build(matrix, rng, *, preconditioning=None, **kwargs):
    matrix = tf.constant(matrix)
    problem = subspaces.Problem(
        loss=lambda step: tf.reduce_sum(step) * 0,
        gradient=lambda step: step,
        matvec=lambda vector: tf.linalg.matvec(matrix, vector),
        hessian=lambda: matrix,
        preconditioning=preconditioning,
    )
    gradient, previous = rng.normal(size=(2, SIZE))
    if kwargs.get("krylov_dimension", 3) is None:
        previous = None
    return gradient, subspaces.build(
        problem,
        settings(**kwargs),
        tf.constant(gradient),
        None if previous is None else tf.constant(previous),
        tf.constant(0.1, tf.float64),
        tf.constant([0, 0]),
    )


def half_the_diagonal(matrix, previous):
    half = np.abs(np.diag(matrix)) / 2
    along = np.sum(half * previous**2) / np.sum(previous**2)
    return preconditioned.Preconditioning(
        lambda vector, shift: vector / (half + shift),
        lambda vector, shift: vector * (half + shift),
        tf.constant(along),
        tf.constant(0.1, tf.float64),
        tf.constant(False),
    )


@pytest.mark.parametrize("kind", ["whole", "krylov", "preconditioned"])
def test_coordinates_are_those_along_the_ritz_vectors(kind, symmetric):
    matrix = symmetric(np.linspace(-2, 5, SIZE))
    _, previous = np.random.default_rng(0).normal(size=(2, SIZE))
    gradient, subspace = build(
        matrix,
        np.random.default_rng(0),
        krylov_dimension=None if kind == "whole" else 3,
        preconditioning=half_the_diagonal(matrix, previous) if kind == "preconditioned" else None,
    )
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


def test_rows_of_the_basis():
    assert subspaces.basis_rows(settings(), 100, True) == 4
    assert subspaces.basis_rows(settings(), 2, True) == 2
    assert subspaces.basis_rows(settings(krylov_dimension=None), 50, False) == 50
