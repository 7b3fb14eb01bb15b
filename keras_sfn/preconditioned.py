"""A subspace of preconditioned directions: M^-1 g, M^-1 H of it, and so on, with M = P + shift.

P is a rough approximation of the curvature (`kronecker`), H the Hessian. The Hessian is seen from
the subspace exactly, by one product a row, so that P chooses where to look and what is far: lengths
and signs come from H, as in a plain Krylov subspace.

Rows are orthonormal in the inner product of M, so Ritz values are curvatures relative to M, numbers
without a unit, near 1 where P is right, and damping is added to them. More of it turns the step
towards M^-1 g, not towards the gradient: a rejected step keeps its scaling. (With the Euclidean
inner product and the Hessian of a part of the rows, damping rose until it hid the small curvatures
that matter late in training. On the adding problem that took four times as long.)

The shift is to P what damping is to the model. From time to time neighbours of the value in use are
tried, and the one from which the model promises most is kept.

References: Martens and Grosse, 2015, https://arxiv.org/abs/1503.05671, sections 6.4 to 7, for the
exact model over the preconditioned gradient and the last step, and for the choice of the shift;
Davidson, Journal of Computational Physics 17 (1975), for expanding a subspace so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_sfn import row_blocks, saddle_free, vectors

# The first shift, as a fraction of P's largest eigenvalue.
FIRST_SHIFT = 1e-3

# By how much the neighbours that are tried differ.
_STRIDE = 1.6

# What is left of a direction that lies in the span of the rows before it.
_IN_SPAN = 1e-4

# A second Gram-Schmidt pass runs where the first leaves less than this part of the squared norm.
_CANCELLATION = 0.5

# The same of the last step, whose norm is an estimate from the step before.
_DOUBTFUL = 0.05


class Preconditioning(NamedTuple):
    """How directions are preconditioned in one step.

    Attributes:
        solve: Maps a vector of shape (n,) and a shift to (P + shift)^-1 vector.
        multiply: Maps them to (P + shift) vector.
        last_curvature: Scalar, p'Pp / p'p of the last step p.
        shift: Positive scalar, state from step to step.
        search: Scalar boolean, whether neighbours of the shift are tried in this step.
    """

    solve: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    multiply: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    last_curvature: tf.Tensor
    shift: tf.Tensor
    search: tf.Tensor


class Subspace(NamedTuple):
    """Rows that are orthonormal in the inner product of P + shift, and the operator seen from them.

    Attributes:
        blocks: The rows; zero where a direction lay in the span of those before it.
        ritz: Eigenpairs of the operator projected on them.
        shift: Scalar, with which they were made.
    """

    blocks: row_blocks.Blocks
    ritz: saddle_free.RitzPairs
    shift: tf.Tensor


def build(
    matvec: Callable[[tf.Tensor], tf.Tensor],
    gradient: tf.Tensor,
    rows: int,
    preconditioning: Preconditioning,
    *,
    append: tf.Tensor | None,
    damping: tf.Tensor,
    seed: tf.Tensor,
) -> Subspace:
    """Builds the subspace, three times where the shift is searched for.

    Args:
        matvec: The symmetric operator.
        gradient: Shape (n,). Where it is zero the first direction is random.
        rows: Number k of rows, with `append`.
        preconditioning: P and the shift.
        append: Vector of shape (n,) that is the last row, or None.
        damping: Scalar that the model's promise is compared with; negative where there is none yet.
        seed: Shape (2,) integers, of the random direction.
    """
    first = preconditioning.shift
    tried = tf.stack([first, first * _STRIDE, first / _STRIDE])
    count = tf.where(preconditioning.search, 3, 1)
    start = tf.cond(
        tf.reduce_any(tf.not_equal(gradient, 0)),
        lambda: gradient,
        lambda: tf.random.stateless_normal(gradient.shape, seed, dtype=gradient.dtype),
    )

    def body(index: tf.Tensor, promised: tf.Tensor, best: Subspace) -> tuple[object, ...]:
        shift = tried[index]
        blocks, projected = _rows(matvec, start, rows, preconditioning, shift, append)
        ritz = saddle_free.ritz_pairs(projected)
        promise = _promise(ritz, row_blocks.project(blocks, gradient), damping)
        better = (promise > promised) | tf.equal(index, 0)
        kept = _where(better, Subspace(blocks, ritz, shift), best)
        return index + 1, tf.where(better, promise, promised), kept

    size, dtype = int(gradient.shape[0]), gradient.dtype
    no_pairs = saddle_free.RitzPairs(
        tf.zeros((rows,), dtype), tf.zeros((rows, rows), dtype), tf.constant(False)
    )
    nothing = Subspace(row_blocks.zeros(rows, size, dtype), no_pairs, tf.zeros((), dtype))
    state = (tf.constant(0), tf.zeros((), dtype), nothing)
    return tf.while_loop(lambda index, *_: index < count, body, state, parallel_iterations=1)[2]


def _rows(
    matvec: Callable[[tf.Tensor], tf.Tensor],
    start: tf.Tensor,
    rows: int,
    preconditioning: Preconditioning,
    shift: tf.Tensor,
    append: tf.Tensor | None,
) -> tuple[row_blocks.Blocks, tf.Tensor]:
    """Returns the rows and the operator seen from them.

    Of the matrix M = P + shift one solution a row is needed, and no product. A row is M^-1 of a
    vector w, so that its inner products with others are theirs with w. Those of the appended vector
    with the rows follow from w as well, and its norm from P's curvature along it.
    """
    size, dtype = int(start.shape[0]), start.dtype
    appends = append is not None and rows > 1
    last = _scaled(append) if appends else tf.zeros_like(start)

    def body(
        index: tf.Tensor,
        vector: tf.Tensor,
        of_last: tf.Tensor,
        blocks: row_blocks.Blocks,
        projected: tf.Tensor,
    ) -> tuple[object, ...]:
        is_last = tf.equal(index, rows - 1) if appends else tf.constant(False)
        vector = _scaled(vector)
        [row] = row_blocks.at_most_once(
            ~is_last,
            lambda vector: (preconditioning.solve(vector, shift),),
            tf.where(is_last, last, vector),
        )
        row, shares, norm = _orthonormal(
            blocks,
            row,
            tf.where(is_last, of_last, row_blocks.project(blocks, vector)),
            tf.where(
                is_last,
                (preconditioning.last_curvature + shift) * vectors.dot(last, last),
                vectors.dot(row, vector),
            ),
            tf.where(is_last, tf.constant(_DOUBTFUL, dtype), _CANCELLATION),
            lambda row: preconditioning.multiply(row, shift),
        )
        seen_from_last = vectors.dot(last, vector) - vectors.dot(shares, of_last)
        seen_from_last = tf.math.divide_no_nan(seen_from_last, norm)
        blocks = row_blocks.set_row(blocks, index, row)
        product = matvec(row)
        seen = row_blocks.project(blocks, product)
        return (
            index + 1,
            product,
            tf.tensor_scatter_nd_update(of_last, [[index]], seen_from_last[None]),
            blocks,
            tf.tensor_scatter_nd_update(projected, [[index]], seen[None]),
        )

    state = (
        tf.constant(0),
        start,
        tf.zeros((rows,), dtype),
        row_blocks.zeros(rows, size, dtype),
        tf.zeros((rows, rows), dtype),
    )
    *_, blocks, lower = tf.while_loop(
        lambda index, *_: index < rows, body, state, parallel_iterations=1
    )
    # Row j was taken when rows 0 to j were there: the lower triangle.
    lower = tf.linalg.band_part(lower, -1, 0)
    return blocks, lower + tf.transpose(lower) - tf.linalg.diag(tf.linalg.diag_part(lower))


def _orthonormal(
    blocks: row_blocks.Blocks,
    row: tf.Tensor,
    shares: tf.Tensor,
    square: tf.Tensor,
    cancellation: tf.Tensor,
    multiply: Callable[[tf.Tensor], tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns what is left of a row outside the span, of norm one; zero where that is nothing.

    Args:
        blocks: The rows so far, orthonormal in the inner product.
        row: Shape (n,).
        shares: Shape (k,), its inner products with the rows.
        square: Scalar, that with itself.
        cancellation: Scalar; where less than this part of the square is left, the row is multiplied
            by the matrix of the inner product for a second pass.
        multiply: Does that.

    Returns:
        The row, all that was taken out in shape (k,), and the norm of what was left.
    """

    def take_out(row: tf.Tensor, shares: tf.Tensor, square: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return row - row_blocks.combine(blocks, shares), square - vectors.dot(shares, shares)

    def second(row: tf.Tensor, taken: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
        image = multiply(row)
        shares = row_blocks.project(blocks, image)
        row, left = take_out(row, shares, vectors.dot(row, image))
        return row, taken + shares, left

    row, left = take_out(row, shares, square)
    row, shares, left = row_blocks.at_most_once(
        left < cancellation * square, second, row, shares, left
    )
    # A row that is not finite goes on, so that the step sees it.
    norm = tf.where(left <= _IN_SPAN**2 * square, tf.zeros_like(left), tf.sqrt(left))
    return tf.math.divide_no_nan(row, norm), shares, norm


def _scaled(vector: tf.Tensor) -> tf.Tensor:
    # Squares overflow long before norms do.
    return tf.math.divide_no_nan(vector, tf.reduce_max(tf.abs(vector)))


def _promise(ritz: saddle_free.RitzPairs, gradient: tf.Tensor, damping: tf.Tensor) -> tf.Tensor:
    """Returns by how much the damped saddle-free model lowers the loss in a subspace."""
    reduced = tf.linalg.matvec(ritz.vectors, gradient, transpose_a=True)
    stiffness = tf.abs(ritz.values)
    epsilon = float(np.finfo(stiffness.dtype.as_numpy_dtype).eps)
    floor = tf.maximum(damping, epsilon * tf.reduce_max(stiffness))
    return 0.5 * tf.reduce_sum(tf.math.divide_no_nan(reduced**2, stiffness + floor))


def _where(condition: tf.Tensor, new: Subspace, old: Subspace) -> Subspace:
    kept: Subspace = tf.nest.map_structure(lambda a, b: tf.where(condition, a, b), new, old)
    return kept
