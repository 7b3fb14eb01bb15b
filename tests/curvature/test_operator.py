"""What the operator has beside products, whose tests are in `test_products.py`."""

import sys

import keras
import numpy as np
import pytest
import scipy.sparse.linalg
import tensorflow as tf

import keras_sfn

EIGENVALUES = np.concatenate([[-3.0, -0.5], np.linspace(0.01, 0.1, 20), [5.0, 9.0]])


def test_scipy_solves_with_the_operator(make_hessian):
    hessian, matrix = make_hessian(EIGENVALUES)
    operator = hessian.to_scipy()
    assert isinstance(operator, scipy.sparse.linalg.LinearOperator)
    assert operator.shape == hessian.shape
    assert operator.dtype == np.float64
    block = np.random.default_rng(0).normal(size=(24, 3))
    np.testing.assert_allclose(operator @ block, matrix @ block, atol=1e-12)
    np.testing.assert_allclose(operator.T @ block[:, 0], matrix @ block[:, 0], atol=1e-12)
    solved, info = scipy.sparse.linalg.minres(operator, block[:, 0], rtol=1e-12)
    assert info == 0
    np.testing.assert_allclose(matrix @ solved, block[:, 0], atol=1e-8)


def test_the_scipy_operator_of_a_float32_model_casts_what_it_gets():
    point = keras.Variable([1.0, -2.0])
    hessian = keras_sfn.HessianOperator(lambda: tf.reduce_sum(point.value**3), [point])
    product = hessian.to_scipy() @ np.ones(2)
    np.testing.assert_allclose(product, [6, -12])
    assert product.dtype == np.float32


def test_without_scipy_the_error_says_what_to_install(make_hessian, monkeypatch):
    hessian, _ = make_hessian([1.0, 2.0])
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    for function in (hessian.to_scipy, lambda: keras_sfn.top_eigenpairs(hessian)):
        with pytest.raises(ImportError, match=r"needs SciPy.*`pip install scipy`"):
            function()


@tf.custom_gradient
def stops_its_slope(x):
    y = tf.tanh(x)
    return y, lambda g: g * tf.raw_ops.StopGradient(input=1 - y * y)


@pytest.mark.parametrize(("function", "is_right"), [(tf.tanh, True), (stops_its_slope, False)])
def test_the_report_tells_right_products_from_wrong_ones_and_is_made_once(function, is_right):
    point, other = keras.Variable([1.0, -2.0, 0.5]), keras.Variable([1.0, 3.0])
    loss_fn = lambda: tf.reduce_sum(function(point.value)) + tf.reduce_sum(other.value**2)
    hessian = keras_sfn.HessianOperator(loss_fn, [point, other])
    report = hessian.curvature_report
    assert bool(report) is is_right
    assert report.wrong == (() if is_right else (point.path,))
    assert hessian.curvature_report is report
