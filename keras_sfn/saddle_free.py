"""The saddle-free Newton direction in the coordinates of a small subspace.

In the basis of Ritz vectors the quadratic model of the loss is diagonal,

    m(z) = c' z + z' diag(theta) z / 2,

with Ritz values theta and reduced gradient c. The step is z = -(|diag(theta)| + damping I)^-1 c: it
goes down along directions of negative curvature, where Newton's -c / theta would go up.

Reference: Dauphin et al., "Identifying and attacking the saddle point problem in high-dimensional
non-convex optimization", NIPS 2014, arXiv 1406.2572.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class RitzPairs(NamedTuple):
    """Eigenpairs of the operator projected on a subspace.

    Attributes:
        values: Shape (k,), ascending.
        vectors: Shape (k, k), columns are coordinates in the subspace's basis.
        finite: Scalar boolean, false where the projected matrix held NaN or infinity (the pairs
            are then those of the zero matrix and mean nothing).
    """

    values: tf.Tensor
    vectors: tf.Tensor
    finite: tf.Tensor


def ritz_pairs(projected: tf.Tensor, on_host: bool = False) -> RitzPairs:
    """Returns the eigenpairs of a symmetric matrix.

    Args:
        projected: Shape (k, k).
        on_host: Whether the machine's LAPACK finds them where there is no GPU: at thousands of rows
            in less than half the time of TensorFlow's solver, but not in what XLA compiles.
    """
    finite = tf.reduce_all(tf.math.is_finite(projected))
    # LAPACK stops the whole program on NaN, and entries far from 1 have given wrong results.
    projected = tf.where(finite, projected, 0)
    largest = tf.reduce_max(tf.abs(projected))
    scale = tf.where(largest > 0, largest, 1)
    if on_host and not tf.config.list_logical_devices("GPU"):
        values, vectors = _lapack_eigh(projected / scale)
        return RitzPairs(values * scale, vectors, finite)
    values, vectors = tf.linalg.eigh(projected / scale)
    if projected.dtype == tf.float64:
        # XLA's `eigh` stops at an error of 1e-6 whatever the precision.
        values, vectors = _refine(projected / scale, vectors)
    return RitzPairs(values * scale, vectors, finite)


def _lapack_eigh(matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    values, vectors = tf.numpy_function(np.linalg.eigh, [matrix], [matrix.dtype, matrix.dtype])
    return tf.ensure_shape(values, matrix.shape[:1]), tf.ensure_shape(vectors, matrix.shape)


def _refine(matrix: tf.Tensor, vectors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Squares the error of approximate eigenvectors; clusters keep their span, not their axes.

    Reference: Ogita and Aishima, Iterative refinement for symmetric eigenvalue decomposition,
    Japan Journal of Industrial and Applied Mathematics 35 (2018), algorithm 1.
    """
    identity = tf.eye(matrix.shape[0], dtype=matrix.dtype)
    gram_error = identity - tf.matmul(vectors, vectors, transpose_a=True)
    rotated = tf.matmul(vectors, tf.matmul(matrix, vectors), transpose_a=True)
    values = tf.linalg.diag_part(rotated) / (1 - tf.linalg.diag_part(gram_error))
    off_diagonal = rotated - tf.linalg.diag(values)
    noise = 2 * (tf.norm(off_diagonal) + tf.norm(matrix) * tf.norm(gram_error))
    gaps = values[None, :] - values[:, None]
    separate = tf.abs(gaps) > noise
    correction = tf.where(
        separate,
        (rotated + values[None, :] * gram_error) / tf.where(separate, gaps, 1),
        gram_error / 2,
    )
    return values, vectors + tf.matmul(vectors, correction)


def saddle_free_direction(
    ritz_values: tf.Tensor, gradient: tf.Tensor, damping: tf.Tensor
) -> tf.Tensor:
    """Returns -(|theta| + damping)^-1 c, shape (k,).

    Where |theta| + damping is zero to rounding the model says nothing about the length of a step
    along that Ritz vector, and the coordinate is zero (as in a pseudo-inverse).

    Args:
        ritz_values: theta, shape (k,).
        gradient: c, shape (k,), the gradient in the basis of Ritz vectors.
        damping: Scalar >= 0, in units of curvature.
    """
    return _solve(tf.abs(ritz_values) + damping, ritz_values, gradient)


def newton_direction(ritz_values: tf.Tensor, gradient: tf.Tensor, damping: tf.Tensor) -> tf.Tensor:
    """Returns -(theta + damping)^-1 c, shape (k,): the paper's damped Newton method.

    Along a direction with theta < -damping it goes up, towards the saddle.

    Args:
        ritz_values: theta, shape (k,).
        gradient: c, shape (k,), the gradient in the basis of Ritz vectors.
        damping: Scalar >= 0, in units of curvature.
    """
    return _solve(ritz_values + damping, ritz_values, gradient)


def _solve(stiffness: tf.Tensor, ritz_values: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    epsilon = float(np.finfo(ritz_values.dtype.as_numpy_dtype).eps)
    usable = tf.abs(stiffness) > epsilon * tf.reduce_max(tf.abs(ritz_values))
    return tf.where(usable, -gradient / tf.where(usable, stiffness, 1), 0)


def predicted_reduction(
    ritz_values: tf.Tensor, gradient: tf.Tensor, displacement: tf.Tensor
) -> tf.Tensor:
    """Returns -m(z), by how much the quadratic model (true signs) says z lowers the loss."""
    return -tf.reduce_sum(displacement * (gradient + 0.5 * ritz_values * displacement))
