"""Each rule: the continued op is smooth, agrees at the point, and is right beside it."""

import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.backend import graphs
from keras_sfn.curvature import smooth_pieces, smooth_rules

POINT = np.array([-1.5, -0.02, 0.03, 0.6, 7.0, 2.0, -4.0, 0.01])
SQUARE = (1, 4, 2, 1)

# An op with kinks, and what it is on the piece of POINT, for any other z.
OPS = {
    "relu": (tf.nn.relu, lambda z: z * (POINT > 0)),
    "relu6": (tf.nn.relu6, lambda z: np.where(POINT >= 6, 6, z * (POINT > 0))),
    "leaky_relu": (tf.nn.leaky_relu, lambda z: np.where(POINT > 0, z, 0.2 * z)),
    "abs": (tf.abs, lambda z: z * np.sign(POINT)),
    "clip": (
        lambda z: tf.clip_by_value(z, -1.0, 1.0),
        lambda z: np.where(np.abs(POINT) <= 1, z, np.sign(POINT)),
    ),
    "elu": (tf.nn.elu, lambda z: np.where(POINT > 0, z, np.expm1(z))),
    "selu": (
        tf.nn.selu,
        lambda z: 1.0507009873554805 * np.where(POINT > 0, z, 1.6732632423543772 * np.expm1(z)),
    ),
    "maximum": (
        lambda z: tf.maximum(z, z[::-1] * 0.5),
        lambda z: np.where(POINT[::-1] * 0.5 <= POINT, z, z[::-1] * 0.5),
    ),
    "minimum": (
        lambda z: tf.minimum(z, z[::-1] * 0.5),
        lambda z: np.where(POINT[::-1] * 0.5 >= POINT, z, z[::-1] * 0.5),
    ),
    "reduce_max": (
        lambda z: tf.reduce_max(tf.reshape(z, (2, 4)), axis=1),
        lambda z: z[[3, 4]],
    ),
    "reduce_min": (
        lambda z: tf.reduce_min(tf.reshape(z, (2, 4)), axis=1),
        lambda z: z[[0, 6]],
    ),
    "max_pool": (
        lambda z: tf.reshape(tf.nn.max_pool2d(tf.reshape(z, SQUARE), 2, 2, "VALID"), (2,)),
        lambda z: z[[3, 4]],
    ),
    "floor": (lambda z: z * tf.floor(z), lambda z: z * np.floor(POINT)),
    "where": (
        lambda z: tf.where(z > 0.5, z**2, z**3),
        lambda z: np.where(POINT > 0.5, z**2, z**3),
    ),
    "sort": (lambda z: tf.gather(z, tf.argsort(z)), lambda z: z[np.argsort(POINT)]),
}


def piece(function):
    return smooth_pieces.SmoothPiece(
        graphs.concrete(function, tf.TensorSpec(POINT.shape, "float64"))
    )


@pytest.mark.parametrize("name", OPS)
def test_values_follow_the_piece_far_beyond_its_kinks(name):
    op, expected = OPS[name]
    continued = piece(op)
    assert continued.num_kinks > 0
    at = continued.at(tf.constant(POINT))
    np.testing.assert_allclose(at(tf.constant(POINT)), op(tf.constant(POINT)), rtol=1e-12)
    other = np.random.default_rng(0).normal(size=POINT.shape)
    np.testing.assert_allclose(at(tf.constant(other)), expected(other), rtol=1e-6)


@pytest.mark.parametrize("name", OPS)
def test_gradients_follow_the_piece_too(name):
    """The gradient of the continued op's sum of cubes, against that of the piece's formula."""
    op, expected = OPS[name]

    def gradient(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = tf.reduce_sum(op(z) ** 3)
        return tf.convert_to_tensor(tape.gradient(value, z))

    at = piece(gradient).at(tf.constant(POINT))
    other = np.random.default_rng(0).normal(size=POINT.shape)
    length = 1e-6
    differences = [
        np.sum(expected(other + step) ** 3 - expected(other - step) ** 3) / (2 * length)
        for step in length * np.eye(len(POINT))
    ]
    np.testing.assert_allclose(at(tf.constant(other)), differences, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pool", [tf.nn.max_pool3d], ids=["max_pool3d"])
def test_three_dimensional_pooling_in_float32(pool):
    point = np.random.default_rng(0).normal(size=8).astype("float32")

    def function(z):
        return tf.reshape(pool(tf.reshape(z, (1, 2, 2, 2, 1)), 2, 2, "VALID"), (1,))

    at = smooth_pieces.SmoothPiece(graphs.concrete(function, tf.TensorSpec((8,)))).at(
        tf.constant(point)
    )
    np.testing.assert_array_equal(at(tf.constant(-point)), [-point.max()])


def test_a_masked_infinity_stays_without_effect():
    def function(z):
        masked = tf.where(tf.constant([True, False] * 4), z, -np.inf)
        return tf.reduce_max(masked, keepdims=True)

    at = piece(function).at(tf.constant(POINT))
    np.testing.assert_array_equal(at(tf.constant(-POINT)), [-POINT[4]])


def test_whole_numbers_are_held_as_they_are():
    def function(z):
        bins = tf.cast(z * 10, "int32")
        return z * tf.cast(tf.reduce_max(bins), "float64")

    at = piece(function).at(tf.constant(POINT))
    np.testing.assert_array_equal(at(tf.constant(-POINT)), -POINT * 70)


def test_stop_gradient_of_tensorflow_itself_is_not_held():
    bare = piece(lambda z: z * tf.raw_ops.StopGradient(input=z))
    assert bare.num_kinks == 0
    assert {"Relu", "Floor", "Less", "TopKV2"} <= smooth_rules.ALL_KINKS
