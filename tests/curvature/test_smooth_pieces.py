import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.backend import graphs
from keras_sfn.curvature import smooth_pieces

SPEC = tf.TensorSpec((3,), "float64")


def piece_of(function):
    return smooth_pieces.SmoothPiece(graphs.concrete(function, SPEC))


def test_a_smooth_function_has_nothing_to_hold():
    piece = piece_of(lambda z: tf.tanh(z) ** 2)
    assert piece.num_kinks == 0
    assert not piece.has_free_kinks
    z = tf.constant([0.1, -2.0, 3.0], "float64")
    np.testing.assert_array_equal(piece.at(z * 0)(z), tf.tanh(z) ** 2)


def test_each_point_has_its_own_piece():
    piece = piece_of(tf.nn.relu)
    z = tf.constant([1.0, -1.0, 2.0], "float64")
    np.testing.assert_array_equal(piece.at(z)(-z), [-1, 0, -2])
    np.testing.assert_array_equal(piece.at(-z)(z), [0, -1, 0])


def test_what_the_function_captures_is_read_anew():
    scale = tf.Variable(2.0, dtype="float64")
    piece = piece_of(lambda z: scale * tf.nn.relu(z))
    z = tf.constant([1.0, -1.0, 2.0], "float64")
    at = piece.at(z)
    np.testing.assert_array_equal(at(z), [2, 0, 4])
    scale.assign(3.0)
    np.testing.assert_array_equal(at(z), [3, 0, 6])


@pytest.mark.parametrize(
    "function",
    [
        lambda z: tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, tf.nn.relu(y)), (0, z))[1],
        lambda z: tf.math.top_k(z, 3).values,
    ],
    ids=["inside a loop", "an op without a rule"],
)
def test_kinks_that_cannot_be_held_are_told_of(function):
    assert piece_of(function).has_free_kinks
