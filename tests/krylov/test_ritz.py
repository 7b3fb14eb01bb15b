import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.krylov import ritz


@pytest.mark.parametrize("on_host", [False, True])
def test_ritz_pairs_match_numpy(symmetric, on_host):
    matrix = symmetric([-4.0, -1.0, 2.0, 7.0])
    pairs = ritz.ritz_pairs(tf.constant(matrix), on_host)
    np.testing.assert_allclose(pairs.values, [-4, -1, 2, 7], atol=1e-12)
    np.testing.assert_allclose(
        matrix @ pairs.vectors.numpy(), pairs.vectors.numpy() * pairs.values.numpy(), atol=1e-12
    )
    assert bool(pairs.finite)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_ritz_pairs_of_very_small_and_large_matrices(symmetric, factor):
    matrix = (symmetric([-4.0, -1.0, 2.0, 7.0]) * factor).astype("float32")
    pairs = ritz.ritz_pairs(tf.constant(matrix))
    np.testing.assert_allclose(pairs.values / factor, [-4, -1, 2, 7], rtol=1e-5)


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_ritz_pairs_of_a_matrix_that_is_not_finite(bad, on_host):
    pairs = ritz.ritz_pairs(tf.constant([[1.0, bad], [bad, 1.0]]), on_host)
    assert not bool(pairs.finite)
    assert np.isfinite(pairs.values).all()
