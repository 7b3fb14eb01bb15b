"""What a method makes of the eigenvalues: directions in the coordinates of a small subspace.

In the basis of Ritz vectors the quadratic model of the loss is diagonal,

    m(z) = c' z + z' diag(theta) z / 2,

with Ritz values theta and reduced gradient c. The step is z = -(|diag(theta)| + damping I)^-1 c: it
goes down along directions of negative curvature, where Newton's -c / theta would go up.

Reference: Dauphin et al., "Identifying and attacking the saddle point problem in high-dimensional
non-convex optimization", NIPS 2014, arXiv 1406.2572.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from keras_sfn.krylov import precision

# Ritz values of shape (k,), the gradient in the basis of Ritz vectors, a damping -> direction (k,).
Direction: TypeAlias = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


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
    usable = tf.abs(stiffness) > precision.epsilon(stiffness.dtype) * tf.reduce_max(
        tf.abs(ritz_values)
    )
    return tf.where(usable, -gradient / tf.where(usable, stiffness, 1), 0)


def predicted_reduction(
    ritz_values: tf.Tensor, gradient: tf.Tensor, displacement: tf.Tensor
) -> tf.Tensor:
    """Returns -m(z), by how much the quadratic model (true signs) says z lowers the loss."""
    return -tf.reduce_sum(displacement * (gradient + 0.5 * ritz_values * displacement))
