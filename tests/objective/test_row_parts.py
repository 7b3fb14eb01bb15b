import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.curvature import products
from keras_sfn.objective import objective, parameter_space, row_parts


@pytest.mark.parametrize("jit", [False, True])
def test_products_are_means_over_the_parts_taken(jit):
    space = parameter_space.ParameterSpace([keras.Variable(np.ones(2), dtype="float32")])
    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32")

    def part(index):
        rows = tf.gather(tf.constant(x), index)
        loss_fn = lambda: (tf.reduce_mean(tf.linalg.matvec(rows, space.variables[0].value) ** 2), 0)
        return objective.Objective(loss_fn, space)

    @tf.function(jit_compile=jit, autograph=False)
    def product(taken, vector):
        parts = row_parts.RowParts(part, taken, space)
        return products.hessian_vector_product(parts, space.values())(vector)

    vector = tf.constant([0.5, -2.0])
    for taken in (1, 2, 3):
        rows = x[:taken].reshape(-1, 2)
        expected = 2 * rows.T @ rows @ vector.numpy() / len(rows)
        np.testing.assert_allclose(product(tf.constant(taken), vector), expected, rtol=1e-5)
