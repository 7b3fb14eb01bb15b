import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.objective import parameter_space
from keras_sfn.preconditioner import kronecker


def test_a_layers_kernel_and_bias_are_one_block():
    model = keras.Sequential(
        [
            keras.Input((6, 5)),
            keras.layers.SimpleRNN(4),
            keras.layers.Dense(3),
            keras.layers.BatchNormalization(),
        ]
    )
    blocks = kronecker.layer_blocks(model.trainable_variables)
    assert blocks == (
        kronecker.Block(0, 5 + 4 + 1, 4),
        kronecker.Block(40, 4 + 1, 3),
        kronecker.Block(55, 2, 3),
    )


def test_blocks_cover_convolutions_and_scalars():
    conv = keras.layers.Conv2D(8, 3)
    conv.build((None, 9, 9, 2))
    scalar = keras.Variable(1.0, name="scale")
    blocks = kronecker.layer_blocks([*conv.trainable_variables, scalar])
    assert blocks == (kronecker.Block(0, 3 * 3 * 2 + 1, 8), kronecker.Block(152, 1, 1))


def preconditioner(blocks, samples):
    mean = sum(kronecker.moments(blocks, tf.constant(sample)) for sample in samples) / len(samples)
    pairs = kronecker.eigenpairs(blocks, mean)
    kappa = kronecker.eigenvalues(blocks, pairs, mean)
    return kronecker.Preconditioner(blocks, pairs.vectors, kappa)


@pytest.mark.parametrize("longest", [1024, 3])
def test_solve_inverts_the_shifted_kronecker_product(longest, monkeypatch):
    monkeypatch.setattr(kronecker, "LONGEST_SIDE", longest)
    rng = np.random.default_rng(0)
    blocks = (kronecker.Block(0, 5, 3), kronecker.Block(15, 1, 4))
    samples = rng.normal(size=(7, 19)) * np.geomspace(1, 10, 19)
    p = np.zeros((19, 19))
    for block in blocks:
        matrices = samples[:, block.start : block.start + block.size].reshape(
            -1, block.rows, block.columns
        )
        left = np.einsum("sij,skj->ik", matrices, matrices) / 7
        right = np.einsum("sij,sik->jk", matrices, matrices) / 7
        trace = np.trace(left)
        if block.rows > longest:
            left = np.eye(block.rows) * trace / block.rows
        if block.columns > longest:
            right = np.eye(block.columns) * trace / block.columns
        piece = slice(block.start, block.start + block.size)
        p[piece, piece] = np.kron(left, right) / trace
    found = preconditioner(blocks, samples)
    vector = rng.normal(size=19)
    solved = found.solve(tf.constant(vector), tf.constant(0.3, tf.float64))
    np.testing.assert_allclose(solved, np.linalg.solve(p + 0.3 * np.eye(19), vector), rtol=1e-9)
    multiplied = found.multiply(tf.constant(vector), tf.constant(0.3, tf.float64))
    np.testing.assert_allclose(multiplied, p @ vector + 0.3 * vector, rtol=1e-9)
    np.testing.assert_allclose(np.sort(found.curvature), np.linalg.eigvalsh(p), atol=1e-9)


@pytest.mark.parametrize("jit", [False, True])
def test_in_place_gives_the_same(jit):
    rng = np.random.default_rng(3)
    blocks = (kronecker.Block(0, 5, 3), kronecker.Block(15, 1, 4))
    joined = preconditioner(blocks, rng.normal(size=(7, 19)))
    vector, shift = tf.constant(rng.normal(size=19)), tf.constant(0.3, tf.float64)
    in_place = joined._replace(in_place=True)

    @tf.function(autograph=False, jit_compile=jit)
    def both():
        # The vector itself is used after it.
        return in_place.solve(vector, shift), in_place.multiply(vector, shift), tf.identity(vector)

    solved, multiplied, same = both()
    np.testing.assert_allclose(solved, joined.solve(vector, shift), rtol=1e-12)
    np.testing.assert_allclose(multiplied, joined.multiply(vector, shift), rtol=1e-12)
    np.testing.assert_array_equal(same, vector)
    product = joined.multiply(vector, tf.zeros_like(shift))
    np.testing.assert_allclose(joined.square(vector), tf.tensordot(vector, product, 1))


def test_the_curvature_belongs_to_rotated_coordinates():
    rng = np.random.default_rng(2)
    blocks = (kronecker.Block(0, 5, 3), kronecker.Block(15, 1, 4))
    found = preconditioner(blocks, rng.normal(size=(7, 19)))
    rotation = np.stack(
        [kronecker.rotated(blocks, found.eigenvectors, tf.constant(axis)) for axis in np.eye(19)]
    )
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(19), atol=1e-12)
    other = found._replace(curvature=tf.constant(np.arange(1.0, 20)))
    vector = rng.normal(size=19)
    expected = rotation @ (np.arange(1, 20) * (rotation.T @ vector))
    np.testing.assert_allclose(
        other.multiply(tf.constant(vector), tf.constant(0.0, tf.float64)), expected, rtol=1e-9
    )


def test_a_gauss_newton_matrix_that_is_a_kronecker_product_is_found():
    rng = np.random.default_rng(1)
    factors = [rng.normal(size=(side, 2 * side)) for side in (4, 3)]
    a, g = (factor @ factor.T for factor in factors)
    roots = [np.linalg.cholesky(factor) for factor in (a, g)]
    samples = roots[0] @ rng.normal(size=(4000, 4, 3)) @ roots[1].T
    found = preconditioner((kronecker.Block(0, 4, 3),), samples.reshape(4000, 12))
    shift = 0.1 * np.linalg.eigvalsh(np.kron(a, g))[-1]
    inverse = np.stack(
        [found.solve(tf.constant(axis), tf.constant(shift, tf.float64)) for axis in np.eye(12)]
    )
    expected = np.linalg.inv(np.kron(a, g) + shift * np.eye(12))
    assert np.linalg.norm(inverse - expected) < 0.03 * np.linalg.norm(expected)


def rounded(moments, seed):
    """Moments as another order of sums would give them."""
    noise = np.random.default_rng(seed).uniform(-1, 1, moments.shape)
    return moments + 1e-16 * np.abs(moments).max() * noise


def test_nothing_depends_on_the_basis_of_a_null_space():
    # One sample of 6 x 4: rank one, and another block without any curvature.
    blocks = (kronecker.Block(0, 6, 4), kronecker.Block(24, 2, 3))
    rng = np.random.default_rng(0)
    sample = np.concatenate([np.outer(rng.normal(size=6), rng.normal(size=4)).ravel(), np.zeros(6)])
    moments = kronecker.moments(blocks, tf.constant(sample)).numpy()
    moments[:52] = rounded(moments[:52], 1)
    other = moments.copy()
    other[:52] = rounded(moments[:52], 2)
    product, vector = rng.normal(size=(2, 30))
    found = []
    for mean in (moments, other):
        pairs = kronecker.eigenpairs(blocks, tf.constant(mean))
        kappa = kronecker.eigenvalues(blocks, pairs, tf.constant(mean))
        bases, vanish = pairs.vectors, pairs.vanish
        np.testing.assert_array_equal(vanish, [5, 3, 0, 0])
        squares = kronecker.rotated(blocks, bases, tf.constant(product)) ** 2
        evened = kronecker.evened(blocks, vanish, squares)
        np.testing.assert_allclose(tf.reduce_sum(evened), tf.reduce_sum(squares))
        # The axes of a block without curvature have a meaning, and keep their squares.
        np.testing.assert_array_equal(evened[24:], squares[24:])
        p = kronecker.Preconditioner(blocks, bases, evened)
        found.append((p.multiply(tf.constant(vector), tf.constant(0.1, tf.float64)), kappa))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-9)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-9)
    # Where the sample says nothing, next to nothing.
    assert np.count_nonzero(found[0][1] > 1e-12) == 1
    assert np.all(found[0][1][:24] > 0)


def test_without_any_curvature_the_direction_is_the_vectors():
    blocks = (kronecker.Block(0, 2, 3),)
    found = preconditioner(blocks, np.zeros((1, 6)))
    vector = np.arange(6.0)
    np.testing.assert_allclose(
        found.solve(tf.constant(vector), tf.constant(2.0, tf.float64)), vector / 2
    )
    assert not np.any(found.curvature)


def test_every_stock_layer_is_covered_by_blocks(digits):
    del digits
    layers = [
        keras.layers.LSTM(3),
        keras.layers.GRU(3),
        keras.layers.Bidirectional(keras.layers.SimpleRNN(2)),
    ]
    for layer in layers:
        model = keras.Sequential([keras.Input((4, 5)), layer])
        space = parameter_space.ParameterSpace(model.trainable_variables)
        blocks = kronecker.layer_blocks(model.trainable_variables)
        assert blocks[-1].start + blocks[-1].size == space.size
