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
from typing import Any, NamedTuple

import tensorflow as tf

from keras_sfn.krylov import loops, precision, row_blocks, vectors
from keras_sfn.krylov import ritz as ritz_lib
from keras_sfn.newton import subspaces

# The first shift, as a fraction of P's largest eigenvalue.
FIRST_SHIFT = 1e-3

# By how much the neighbours that are tried differ, in turn: where near ones promise the same, a far
# one may not.
STRIDES = (1.6, 16.0)

# What is left of a direction that lies in the span of the rows before it.
_IN_SPAN = 1e-4

# A second Gram-Schmidt pass runs where the first leaves less than this part of the squared norm.
_CANCELLATION = 0.5

# The same of the last step, whose norm is an estimate from the step before.
_DOUBTFUL = 0.05


class ShiftedPreconditioner(NamedTuple):
    """P + shift, with which the directions of one step are scaled.

    Attributes:
        solve: Maps a vector of shape (n,) and a shift to (P + shift)^-1 vector.
        multiply: Maps them to (P + shift) vector.
        last_curvature: Scalar, p'Pp / p'p of the last step p.
        shift: Positive scalar, state from step to step.
        search: Scalar boolean, whether neighbours of the shift are tried in this step.
        stride: Scalar, by how much these differ.
    """

    solve: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    multiply: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    last_curvature: tf.Tensor
    shift: tf.Tensor
    search: tf.Tensor
    stride: tf.Tensor


class PreconditionedRows(NamedTuple):
    """Rows that are orthonormal in the inner product of P + shift, and the operator seen from them.

    Attributes:
        blocks: The rows; zero where a direction lay in the span of those before it.
        ritz: Eigenpairs of the operator projected on them.
        gradient: Shape (k,), the products of the rows with the gradient.
        shift: Scalar, with which they were made.
        made: Scalar integer, how many of them there are. The Ritz values of the others are larger
            than theirs.
    """

    blocks: row_blocks.Blocks
    ritz: ritz_lib.RitzPairs
    gradient: tf.Tensor
    shift: tf.Tensor
    made: tf.Tensor


def preconditioned_space(
    matvec: Callable[[tf.Tensor], tf.Tensor],
    most: int,
    directions: tf.Tensor,
    preconditioner: ShiftedPreconditioner,
    agree: subspaces.Agree,
) -> subspaces.Span:
    """Returns what makes the span of preconditioned directions.

    Args:
        matvec: v -> H v on shape (n,).
        most: For how many directions there is room, beside the previous step.
        directions: Scalar integer, how many are made, at most `most`.
        preconditioner: P and the shift.
        agree: See `subspaces.Agree`.
    """

    def span(start: subspaces.Start) -> subspaces.Subspace:
        size, joins = int(start.gradient.shape[0]), start.previous_step is not None
        count = subspaces.dimension(most, size, joins)
        rows = preconditioned_rows(matvec, start, count, preconditioner, directions, agree)
        return subspaces.of_rows(
            rows.blocks, rows.ritz, rows.gradient, agree, shift=rows.shift, made=rows.made
        )

    return span


def preconditioned_rows(
    matvec: Callable[[tf.Tensor], tf.Tensor],
    start: subspaces.Start,
    rows: int,
    preconditioner: ShiftedPreconditioner,
    directions: tf.Tensor | None = None,
    agree: subspaces.Agree = lambda value: value,
) -> PreconditionedRows:
    """Returns the rows; where the shift is searched for, those of the best shift tried.

    These are made a second time unless they were the last ones, as they would otherwise be held
    beside those in the making.

    Args:
        matvec: The symmetric operator.
        start: Where its gradient is zero the first direction is random. Its previous step, if
            there is one, is the last row; what the model promises is compared with its damping.
        rows: For how many there is room, with that of the previous step: k.
        preconditioner: P and the shift.
        directions: Scalar integer, how many rows are made beside that of the previous step; None
            for as many as there is room for. Rows that are not made are zero.
        agree: See `subspaces.Agree`.
    """
    gradient = start.gradient
    initial = preconditioner.shift
    stride = preconditioner.stride
    tried = tf.stack([initial, initial * stride, initial / stride])
    count = tf.where(preconditioner.search, 3, 1)
    absent = tf.reduce_all(tf.equal(gradient, 0))
    first, _ = loops.at_most_once(
        absent,
        lambda vector, seed: (
            tf.random.stateless_normal(vector.shape, seed, dtype=vector.dtype),
            seed + 1,
        ),
        gradient,
        start.seed,
    )
    last = _last(start.previous_step, rows)
    used = tf.constant(rows) if directions is None else directions + (last is not None)
    made = _Directions(matvec, first, rows, tf.minimum(used, rows), preconditioner, last)

    def is_next(turn: tf.Tensor, best: tf.Tensor, *_: object) -> tf.Tensor:
        return (turn < count) | (tf.equal(turn, count) & tf.not_equal(best, count - 1))

    def body(
        turn: tf.Tensor, best: tf.Tensor, promised: tf.Tensor, _: PreconditionedRows
    ) -> tuple[Any, ...]:
        # `tried[...]` would make XLA compile a step for each value of what the index follows from.
        shift = tf.gather(tried, tf.where(turn < count, turn, best))
        blocks, projected = made.rows_of(shift)
        ritz = ritz_lib.ritz_pairs(projected)
        # Of what it started from, which is held: of the gradient there need be no second copy.
        reduced = tf.where(absent, tf.zeros((), first.dtype), row_blocks.project(blocks, first))
        promise = agree(_promise(ritz, reduced, start.damping))
        better = (turn < count) & ((promise > promised) | tf.equal(turn, 0))
        best, promised = tf.where(better, turn, best), tf.where(better, promise, promised)
        return turn + 1, best, promised, PreconditionedRows(blocks, ritz, reduced, shift, made.used)

    size, dtype = int(gradient.shape[0]), gradient.dtype
    no_pairs = ritz_lib.RitzPairs(
        tf.zeros((rows,), dtype), tf.zeros((rows, rows), dtype), tf.constant(False)
    )
    blocks = row_blocks.zeros(rows, size, dtype)
    zero = tf.zeros((), dtype)
    nothing = PreconditionedRows(blocks, no_pairs, tf.zeros((rows,), dtype), zero, made.used)
    state = (tf.constant(0), tf.constant(0), zero, nothing)
    return tf.while_loop(is_next, body, state, parallel_iterations=1)[-1]


class _Last(NamedTuple):
    """The vector that is the last row."""

    vector: tf.Tensor  # (n,)
    scale: tf.Tensor  # (), what it is multiplied by
    square: tf.Tensor  # (), of its norm then


def _last(append: tf.Tensor | None, rows: int) -> _Last | None:
    if append is None or rows == 1:
        return None
    scale = _scale(append)
    return _Last(append, scale, vectors.dot(scale * append, scale * append))


class _Candidate(NamedTuple):
    """A row before it is made orthogonal to those before it."""

    row: tf.Tensor  # (n,)
    square: tf.Tensor  # (), its inner product with itself
    shares: tf.Tensor  # (k,), those with the rows so far
    with_last: tf.Tensor  # (), that with the vector that is the last row


class _State(NamedTuple):
    """What the loop over the rows carries."""

    index: tf.Tensor  # (), the row in turn
    product: tf.Tensor  # (n,), that with the row before; () where no row is made from it
    of_last: tf.Tensor  # (k,), inner products of the rows with the vector that is the last one
    blocks: row_blocks.Blocks
    lower: tf.Tensor  # (k, k), the operator seen from the rows: its lower triangle


class _Directions(NamedTuple):
    """Makes the rows for a shift.

    Of the matrix M = P + shift one solution a row is needed, and no product. A row is M^-1 of a
    vector w, so that its inner products with others are theirs with w. Those of the appended vector
    with the rows follow from w as well, and its norm from P's curvature along it.

    No vector is held that need not be: loops of one round or none hand on the vector they are
    given, and what they need is part of their state, where XLA would otherwise make it ahead of all
    loops (of P + shift a vector, of the scaled last row another, of what a row is made from a
    third).
    """

    matvec: Callable[[tf.Tensor], tf.Tensor]
    first: tf.Tensor  # (n,), what the first row is made from
    rows: int
    used: tf.Tensor  # (), how many of them are made
    preconditioner: ShiftedPreconditioner
    last: _Last | None

    def rows_of(self, shift: tf.Tensor) -> tuple[row_blocks.Blocks, tf.Tensor]:
        """Returns the rows and the operator seen from them."""
        size, dtype = int(self.first.shape[0]), self.first.dtype
        start = _State(
            index=tf.constant(0),
            product=self.first if self._several else tf.zeros((), dtype),
            of_last=tf.zeros((self.rows,), dtype),
            blocks=row_blocks.zeros(self.rows, size, dtype),
            lower=tf.zeros((self.rows, self.rows), dtype),
        )
        end = _State(
            *tf.while_loop(
                lambda index, *_: index < self.used,
                lambda *fields: self._advance(_State(*fields), shift),
                start,
                parallel_iterations=1,
            )
        )
        # Row j was taken when rows 0 to j were there.
        projected = ritz_lib.mirrored(end.lower)
        # What has no row is as stiff as any, by the sums of the rows: no step goes there, and it is
        # not more than damping is measured by.
        absent = tf.cast(tf.range(self.rows) >= self.used, dtype)
        stiff = tf.reduce_max(tf.reduce_sum(tf.abs(projected), axis=1))
        return end.blocks, projected + tf.linalg.diag(absent * stiff)

    @property
    def _several(self) -> bool:
        """Whether rows are made from products; the last one need not be."""
        return self.rows > 1 + (self.last is not None)

    def _advance(self, state: _State, shift: tf.Tensor) -> _State:
        index, dtype = state.index, shift.dtype
        is_last = tf.constant(False) if self.last is None else tf.equal(index, self.used - 1)
        candidate = self._candidate(state, is_last, shift)
        row, shares, norm = _orthonormal(
            state.blocks,
            candidate,
            tf.where(is_last, tf.constant(_DOUBTFUL, dtype), _CANCELLATION),
            self.preconditioner.multiply,
            shift,
        )
        with_last = candidate.with_last - vectors.dot(shares, state.of_last)
        with_last = tf.math.divide_no_nan(with_last, norm)
        blocks = row_blocks.set_row(state.blocks, index, row)
        product = self.matvec(row)
        seen = row_blocks.project(blocks, product)
        return _State(
            index + 1,
            product if self._several else state.product,
            tf.tensor_scatter_nd_update(state.of_last, [[index]], with_last[None]),
            blocks,
            tf.tensor_scatter_nd_update(state.lower, [[index]], seen[None]),
        )

    def _candidate(self, state: _State, is_last: tf.Tensor, shift: tf.Tensor) -> _Candidate:
        last, zero = self.last, tf.zeros_like(shift)
        vector = state.product if self._several else self.first

        def solve(_: tf.Tensor, *old: tf.Tensor) -> tuple[tf.Tensor, ...]:
            scale, shift = old[-2:]
            row = self.preconditioner.solve(scale * vector, shift)
            # The scaled vector is gone: the row was made in its place.
            square, shares = vectors.dot(row, vector), row_blocks.project(state.blocks, vector)
            with_last = zero
            if last is not None:
                with_last = vectors.dot(last.scale * last.vector, vector)
            return row, scale * square, scale * shares, scale * with_last, -scale, -shift

        row, square = tf.zeros_like(vector), zero
        if last is not None:
            square = (self.preconditioner.last_curvature + shift) * last.square
            row, _ = loops.at_most_once(
                is_last, lambda _, scale: (scale * last.vector, -scale), row, last.scale
            )
        *candidate, _, _ = loops.at_most_once(
            ~is_last, solve, row, square, state.of_last, zero, _scale(vector), shift
        )
        return _Candidate(*candidate)


def _orthonormal(
    blocks: row_blocks.Blocks,
    candidate: _Candidate,
    cancellation: tf.Tensor,
    multiply: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    shift: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns what is left of a row outside the span, of norm one; zero where that is nothing.

    Args:
        blocks: The rows so far, orthonormal in the inner product.
        candidate: The row.
        cancellation: Scalar; where less than this part of the square is left, the row is multiplied
            by the matrix of the inner product for a second pass.
        multiply: Does that, as in `ShiftedPreconditioner`.
        shift: Of the matrix.

    Returns:
        The row, all that was taken out in shape (k,), and the norm of what was left.
    """
    row, square, shares, _ = candidate

    def take_out(row: tf.Tensor, shares: tf.Tensor, square: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # After the square, for which the row is read: then it can be changed in its place.
        shares = tf.where(tf.math.is_nan(square), square, shares)
        return row - row_blocks.combine(blocks, shares), square - vectors.dot(shares, shares)

    def second(
        row: tf.Tensor, taken: tf.Tensor, _: tf.Tensor, shift: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        image = multiply(row, shift)
        shares = row_blocks.project(blocks, image)
        row, left = take_out(row, shares, vectors.dot(row, image))
        return row, taken + shares, left, -shift

    row, left = loops.at_most_once(
        tf.reduce_any(tf.not_equal(shares, 0)),
        lambda row, square: take_out(row, shares, square),
        row,
        square,
    )
    row, shares, left, _ = loops.at_most_once(
        left < cancellation * square, second, row, shares, left, shift
    )
    # A row that is not finite goes on, so that the step sees it.
    norm = tf.where(left <= _IN_SPAN**2 * square, tf.zeros_like(left), tf.sqrt(left))
    inverse = tf.math.divide_no_nan(tf.ones_like(norm), norm)
    [row] = loops.at_most_once(tf.not_equal(norm, 1), lambda row: (inverse * row,), row)
    return row, shares, norm


def _scale(vector: tf.Tensor) -> tf.Tensor:
    """Returns a factor that brings a vector near one: squares overflow long before norms do."""
    return 1 / tf.clip_by_value(tf.reduce_max(tf.abs(vector)), 1e-30, 1e30)


def _promise(ritz: ritz_lib.RitzPairs, gradient: tf.Tensor, damping: tf.Tensor) -> tf.Tensor:
    """Returns by how much the damped saddle-free model lowers the loss in a subspace."""
    reduced = tf.linalg.matvec(ritz.vectors, gradient, transpose_a=True)
    stiffness = tf.abs(ritz.values)
    epsilon = precision.epsilon(stiffness.dtype)
    floor = tf.maximum(damping, epsilon * tf.reduce_max(stiffness))
    return 0.5 * tf.reduce_sum(tf.math.divide_no_nan(reduced**2, stiffness + floor))
