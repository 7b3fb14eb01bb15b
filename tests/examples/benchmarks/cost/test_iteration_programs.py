"""The parts of a step that the benchmarks time are what they are called."""

import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from benchmarks.common import deep_autoencoder
from benchmarks.cost import iteration_programs

WIDTHS = (12, 8, 4)


def test_loops_and_gradient_are_those_of_the_hessian():
    programs = iteration_programs.Programs(WIDTHS, rows=16)
    model = deep_autoencoder.build(WIDTHS)
    model.compile(loss="mse")
    _, vector, batch = programs.arguments
    hessian = keras_sfn.HessianOperator.from_model(model, batch, batch)
    np.testing.assert_allclose(programs.loss()(*programs.arguments), hessian.loss(), rtol=1e-6)
    gradient = programs.gradient()(*programs.arguments)
    np.testing.assert_allclose(gradient, hessian.gradient(), rtol=1e-5, atol=1e-8)
    product = programs.product()(*programs.arguments)
    np.testing.assert_allclose(product, hessian.matvec(vector), rtol=1e-4, atol=1e-7)
    norm, along = programs.products(3)(*programs.arguments)
    expected = vector
    for _ in range(3):
        before = expected / tf.norm(expected)
        expected = hessian.matvec(before)
    np.testing.assert_allclose(norm, tf.norm(expected), rtol=1e-4)
    last = tf.tensordot(expected / tf.norm(expected), vector, 1)
    np.testing.assert_allclose(along, last, rtol=1e-3)


@pytest.mark.parametrize("reorthogonalize", [True, False])
def test_the_lanczos_process_is_the_optimizers(reorthogonalize):
    programs = iteration_programs.Programs(WIDTHS, rows=16)
    model = deep_autoencoder.build(WIDTHS)
    model.compile(loss="mse")
    _, vector, batch = programs.arguments
    hessian = keras_sfn.HessianOperator.from_model(model, batch, batch)
    projected, residual = programs.krylov(5, reorthogonalize)(*programs.arguments)
    expected = keras_sfn.lanczos(hessian.matvec, vector, 5, reorthogonalize)
    scale = float(tf.reduce_max(tf.abs(expected.projected)))
    np.testing.assert_allclose(projected, expected.projected, atol=1e-4 * scale)
    np.testing.assert_allclose(residual, tf.norm(expected.residual), rtol=1e-2)


def test_a_loop_of_gradients_goes_down():
    programs = iteration_programs.Programs(WIDTHS, rows=16)
    point, vector, batch = programs.arguments
    gradient = programs.gradient()
    expected = point
    for _ in range(2):
        expected = expected - 0.01 * gradient(expected, vector, batch)
    found = programs.gradients(2)(*programs.arguments)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
    assert programs.loss()(found, vector, batch) < programs.loss()(*programs.arguments)


def test_a_pass_over_vectors_changes_all_of_them():
    programs = iteration_programs.Programs(WIDTHS, rows=16)
    point, vector, _ = programs.arguments
    expected = point[0] + 0.5 * (point[0] + 0.5 * vector[0])
    last = programs.vector_passes(2, 3)(*programs.arguments)
    np.testing.assert_allclose(last, expected, rtol=1e-6)
