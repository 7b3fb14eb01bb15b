import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.krylov import vectors


@pytest.mark.parametrize("size", [5, 4096, 50_021])
@pytest.mark.parametrize("jit", [False, True])
def test_dot_is_the_scalar_product(size, jit):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, size))
    dot = tf.function(vectors.dot, jit_compile=jit)
    np.testing.assert_allclose(dot(tf.constant(a), tf.constant(b)), a @ b, rtol=1e-11)


def test_the_norm_of_a_long_vector_keeps_its_digits_in_float32():
    # A sum of one number after the other is off by 1e-5 here.
    vector = np.random.default_rng(0).uniform(0.5, 1.5, size=3_000_000).astype("float32")
    norm = tf.function(vectors.norm, jit_compile=True)(tf.constant(vector))
    np.testing.assert_allclose(norm, np.linalg.norm(vector.astype("float64")), rtol=3e-7)


@pytest.mark.parametrize("jit", [False, True])
def test_a_part_is_written_into_its_place_and_nowhere_else(jit):
    write = tf.function(lambda v, p: vectors.write(v, 2, p), jit_compile=jit)
    before = tf.range(6.0)
    np.testing.assert_array_equal(write(before, tf.constant([9.0, 8.0])), [0, 1, 9, 8, 4, 5])
    np.testing.assert_array_equal(before, range(6))
