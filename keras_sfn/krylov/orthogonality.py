"""How far a Lanczos basis has drifted from orthogonality, without looking at its vectors.

In exact arithmetic the three-term recurrence keeps the rows q_j orthogonal. In floating point the
products omega_{j,i} = q_j' q_i grow along the Ritz vectors that have converged, by a recurrence
that the coefficients of the tridiagonal matrix alone determine:

    beta_{j+1} omega_{j+1,i} = beta_{i+1} omega_{j,i+1} + (alpha_i - alpha_j) omega_{j,i}
                               + beta_i omega_{j,i-1} - beta_j omega_{j-1,i} + rounding

As long as all of them stay below the root of the precision (semi-orthogonality), the projected
matrix is that of an orthonormal basis to rounding. So rows need removing only where an estimate
comes near that bound: about a third of them, for the Hessians of networks.

Reference: Simon, The Lanczos algorithm with partial reorthogonalization, Mathematics of Computation
42 (1984), equations 2.4 and 2.5.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from keras_sfn.krylov import precision

# The bound on estimated products, as a fraction of the root of the precision: an estimate may be
# short by some factor.
_FRACTION = 0.1


class Overlaps(NamedTuple):
    """Estimated products of the row in turn with all rows, and what the next ones follow from.

    Attributes:
        current: Shape (k,), omega_j; one at j, zero beyond.
        before: Shape (k,), omega_{j-1}.
        alpha: Shape (k,), the diagonal of the projected matrix before row j, zero from there on.
        beta: Shape (k + 1,), beta_i between rows i - 1 and i, up to i = j; zero beyond.
    """

    current: tf.Tensor
    before: tf.Tensor
    alpha: tf.Tensor
    beta: tf.Tensor


def first(rank: int, dtype: tf.DType) -> Overlaps:
    """Returns those of the first row."""
    none = tf.zeros((rank,), dtype)
    return Overlaps(tf.one_hot(0, rank, dtype=dtype), none, none, tf.zeros((rank + 1,), dtype))


def following(
    overlaps: Overlaps,
    index: tf.Tensor,
    alpha: tf.Tensor,
    norm: tf.Tensor,
    operator_norm: tf.Tensor,
) -> tf.Tensor:
    """Estimates the products of row `index` + 1 with the rows so far, shape (k,).

    Args:
        overlaps: Those of row `index`.
        index: Scalar integer j.
        alpha: Scalar, alpha_j.
        norm: Scalar, beta_{j+1}: the norm of what is left of A q_j.
        operator_norm: Scalar, a lower bound of |A|.
    """
    places = tf.range(int(overlaps.current.shape[0]))
    beta = overlaps.beta
    padded = tf.pad(overlaps.current, [[1, 1]])
    moved = (
        beta[1:] * padded[2:]
        + (overlaps.alpha - alpha) * overlaps.current
        + beta[:-1] * padded[:-2]
        - beta[index] * overlaps.before
    )
    noise = 2 * precision.epsilon(norm.dtype) * operator_norm
    # Row j itself was removed by the recurrence, to rounding.
    estimate = tf.where(places < index, tf.abs(moved), 0) + noise
    return tf.where(places <= index, estimate / tf.where(norm > 0, norm, 1), 0)


def advance(
    overlaps: Overlaps, index: tf.Tensor, estimate: tf.Tensor, alpha: tf.Tensor, link: tf.Tensor
) -> Overlaps:
    """Returns those of row `index` + 1.

    Args:
        overlaps: Those of row `index`.
        index: Scalar integer j.
        estimate: Shape (k,), products of row j + 1 with those before it.
        alpha: Scalar, alpha_j.
        link: Scalar, beta_{j+1}, zero where row j + 1 is no Krylov vector.
    """
    places = tf.range(int(estimate.shape[0]))
    return Overlaps(
        current=tf.where(tf.equal(places, index + 1), tf.ones_like(alpha), estimate),
        before=overlaps.current,
        alpha=tf.where(tf.equal(places, index), alpha, overlaps.alpha),
        beta=tf.where(
            tf.equal(tf.range(int(overlaps.beta.shape[0])), index + 1), link, overlaps.beta
        ),
    )


def too_large(estimate: tf.Tensor) -> tf.Tensor:
    """Tells of which rows too much is left in the next one; shape (k,) booleans.

    An estimate that is not finite says nothing, and so counts as too large.
    """
    return ~(estimate < _FRACTION * precision.epsilon(estimate.dtype) ** 0.5)
