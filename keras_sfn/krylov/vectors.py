"""What is done with vectors as long as the parameters: products, norms, a part written in place."""

from __future__ import annotations

import tensorflow as tf

# XLA sums one number after the other on a CPU: a fold makes that so many numbers fewer.
_FOLDS = 16
_SHORTEST_FOLDED = 4096


def dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Returns the product of two vectors of shape (n,), a scalar.

    In XLA's code for CPUs several times as fast as `tf.tensordot`, and with less rounding: pieces
    of the vectors are multiplied and added as vectors, and what is left is summed in rows. (Pieces
    by reshaping: XLA would compute slices of a joined vector a second time from what was joined.)
    Short ones are summed in double precision: the rounding of one row was that of eight numbers,
    enough to move the Ritz values of a Lanczos process.
    """
    length = int(a.shape[0]) // _FOLDS
    if length < _SHORTEST_FOLDED // _FOLDS:
        products = tf.cast(a, tf.float64) * tf.cast(b, tf.float64)
        return tf.cast(tf.reduce_sum(products), a.dtype)
    pieces = [tf.reshape(v[: _FOLDS * length], (_FOLDS, length)) for v in (a, b)]
    folded = tf.reduce_sum(pieces[0] * pieces[1], axis=0)
    width = int(length**0.5)
    whole = length // width * width
    rows = tf.reduce_sum(tf.reshape(folded[:whole], (-1, width)), axis=1)
    rest = tf.tensordot(a[_FOLDS * length :], b[_FOLDS * length :], 1)
    return tf.reduce_sum(rows) + tf.reduce_sum(folded[whole:]) + rest


def norm(vector: tf.Tensor) -> tf.Tensor:
    """Returns the Euclidean norm of a vector of shape (n,), a scalar."""
    return tf.sqrt(dot(vector, vector))


def write(vector: tf.Tensor, start: int, part: tf.Tensor) -> tf.Tensor:
    """Returns a vector with a part of it replaced; XLA makes the part in its place.

    Args:
        vector: Shape (n,).
        start: Index of the first coordinate of the part.
        part: Shape (m,), with start + m <= n.
    """
    place = {"begin": [start], "end": [start + int(part.shape[0])], "strides": [1]}
    return tf.raw_ops.TensorStridedSliceUpdate(input=vector, value=part, **place)
