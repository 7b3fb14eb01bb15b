"""Lanczos tridiagonalisation of a symmetric operator that is known only by its products.

The recurrence, with q_0 = start / |start|:

    w = A q_j,   alpha_j = q_j' w,   w <- w - alpha_j q_j - beta_{j-1} q_{j-1},
    beta_j = |w|,   q_{j+1} = w / beta_j

With reorthogonalisation a Gram-Schmidt pass over all rows so far follows the recurrence (and a
second one where the first cancelled a good part of w), so that the basis stays orthonormal to
rounding.

Reference: Golub and Van Loan, Matrix Computations, chapter 10; for "when is a second pass needed"
Daniel, Gragg, Kaufman and Stewart, Mathematics of Computation 30 (1976).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_sfn import row_blocks

# A second Gram-Schmidt pass runs where the first leaves less than this fraction of the vector.
_CANCELLATION = 0.5**0.5


class LanczosResult(NamedTuple):
    """A Krylov basis and the operator seen from it.

    Attributes:
        basis: Shape (k, n), orthonormal rows.
        diagonal: Shape (k,), the alphas.
        off_diagonal: Shape (k - 1,), the betas between consecutive rows; zero to rounding where a
            breakdown lies between them.
        projected: Shape (k, k), symmetric: basis A basis'. Tridiagonal to rounding but for the
            rows and columns of appended vectors.
        residual: Shape (n,), what is left of A q_{k-1} after orthogonalisation: for a pure Krylov
            basis A Q' - Q' T = residual e_{k-1}'.
        breakdown: Shape (k,) booleans; true at j where the Krylov space was exhausted after row j,
            so that row j + 1 started afresh from a random vector.
    """

    basis: tf.Tensor
    diagonal: tf.Tensor
    off_diagonal: tf.Tensor
    projected: tf.Tensor
    residual: tf.Tensor
    breakdown: tf.Tensor


class Krylov(NamedTuple):
    """What `build` returns: as `LanczosResult`, with the basis as it was built."""

    blocks: row_blocks.Blocks
    projected: tf.Tensor
    residual: tf.Tensor
    breakdown: tf.Tensor


class _State(NamedTuple):
    """What the loop carries: the row in turn and all that has been found so far."""

    index: tf.Tensor  # (), the row in turn
    row: tf.Tensor  # (n,), the row in turn itself, not yet in the basis
    before: tf.Tensor  # (n,), the row before it
    blocks: row_blocks.Blocks  # rows from `index` on are zero
    projected: tf.Tensor  # (k, k), row j holds the coefficients of A q_j
    residual: tf.Tensor  # (n,)
    operator_norm: tf.Tensor  # (), the largest |A q| so far, a lower bound of |A|
    breakdown: tf.Tensor  # (k,)


# What `_next_row` makes orthogonal to the basis, in this order; each may be left out.
_KRYLOV, _KRYLOV_AGAIN, _APPEND, _APPEND_AGAIN, _RANDOM, _RANDOM_AGAIN, _DONE = range(7)


class _Search(NamedTuple):
    """What the search for the next row carries."""

    task: tf.Tensor  # (), what `vector` is
    vector: tf.Tensor  # (n,), to be made orthogonal
    coefficients: tf.Tensor  # (k,), of A q_j in the basis
    residual: tf.Tensor  # (n,), what is left of A q_j
    row: tf.Tensor  # (n,), the next row so far, not normalised


def lanczos(
    matvec: Callable[[tf.Tensor], tf.Tensor],
    start: tf.Tensor,
    num_steps: int,
    reorthogonalize: bool = True,
    *,
    append: tf.Tensor | None = None,
    seed: tf.Tensor | tuple[int, int] = (0, 0),
) -> LanczosResult:
    """Builds an orthonormal Krylov basis with one product a row.

    A breakdown (the space spanned so far is invariant, which includes a zero `start`) is not an
    end: the next row starts afresh from a seeded random vector orthogonal to the rows so far, so
    the basis always has `num_steps` rows and directions that the gradient cannot reach are found.

    Args:
        matvec: The symmetric operator, from shape (n,) to shape (n,).
        start: Shape (n,), floating.
        num_steps: Number k of rows, clipped to n.
        reorthogonalize: Whether each new row is orthogonalised against all before it. Without it
            only the three-term recurrence runs and orthogonality is lost as Ritz values converge.
        append: Optional vector of shape (n,) that takes the place of the last Krylov vector, made
            orthogonal to the others. One that is zero or already in their span is left out and
            the Krylov sequence goes on instead.
        seed: Two integers, the seed of the restarts after a breakdown.

    Returns:
        A `LanczosResult`.

    Raises:
        ValueError: `num_steps` is less than 1, or `start` is not a vector of known length.
    """
    krylov = build(matvec, start, num_steps, reorthogonalize, append=append, seed=seed)
    diagonal = tf.linalg.diag_part(krylov.projected)
    several = int(diagonal.shape[0]) > 1
    return LanczosResult(
        basis=tf.concat(krylov.blocks, axis=0),
        diagonal=diagonal,
        off_diagonal=tf.linalg.diag_part(krylov.projected, k=1) if several else diagonal[:0],
        projected=krylov.projected,
        residual=krylov.residual,
        breakdown=krylov.breakdown,
    )


def build(
    matvec: Callable[[tf.Tensor], tf.Tensor],
    start: tf.Tensor,
    num_steps: int,
    reorthogonalize: bool = True,
    *,
    append: tf.Tensor | None = None,
    seed: tf.Tensor | tuple[int, int] = (0, 0),
) -> Krylov:
    """Does what `lanczos` does, without a copy of the basis; the arguments are the same."""
    size = _check_arguments(start, num_steps, append)
    rank = min(int(num_steps), size)
    seed = tf.cast(tf.convert_to_tensor(seed), tf.int32)

    def body(*fields: tf.Tensor) -> _State:
        state = _State(*fields)
        blocks = row_blocks.set_row(state.blocks, state.index, state.row)
        product = matvec(state.row)
        operator_norm = tf.maximum(state.operator_norm, _norm(product))
        coefficients, rest = _remove_near(state, product, rank)
        appended = append if append is not None and rank > 1 else None
        search = _next_row(
            blocks,
            _Search(tf.constant(_KRYLOV), rest, coefficients, rest, rest),
            state.index,
            operator_norm,
            reorthogonalize,
            appended,
            seed,
        )
        broke = _is_rounding(search.residual, operator_norm)
        return _State(
            index=state.index + 1,
            row=_normalised(search.row),
            before=state.row,
            blocks=blocks,
            projected=_set_row(state.projected, state.index, search.coefficients),
            residual=search.residual,
            operator_norm=operator_norm,
            breakdown=tf.where(tf.range(rank) == state.index, broke, state.breakdown),
        )

    state = _State(*tf.while_loop(lambda index, *_: index < rank, body, _first(start, rank, seed)))
    # Row j of the recorded coefficients is A q_j seen from rows 0 to j: the lower triangle. The
    # entries above it were zero when they were taken, for lack of the later rows.
    lower = tf.linalg.band_part(state.projected, -1, 0)
    return Krylov(
        blocks=state.blocks,
        projected=lower + tf.transpose(lower) - tf.linalg.diag(tf.linalg.diag_part(lower)),
        residual=state.residual,
        breakdown=state.breakdown,
    )


def _check_arguments(start: tf.Tensor, num_steps: int, append: tf.Tensor | None) -> int:
    if isinstance(num_steps, bool) or int(num_steps) != num_steps or num_steps < 1:
        raise ValueError(f"`num_steps` must be an integer >= 1. Received: num_steps={num_steps}.")
    for name, vector in (("start", start), ("append", append)):
        if vector is not None and (vector.shape.rank != 1 or vector.shape[0] is None):
            raise ValueError(
                f"`{name}` must be a vector of known length. Received shape {vector.shape}."
            )
    return int(start.shape[0])


def _first(start: tf.Tensor, rank: int, seed: tf.Tensor) -> _State:
    size, dtype = int(start.shape[0]), start.dtype
    norm = _norm(start)
    row = tf.cond(
        tf.math.is_finite(norm) & (norm > 0),
        lambda: start,
        lambda: _random_vector(start, seed, tf.constant(0)),
    )
    return _State(
        index=tf.constant(0),
        row=_normalised(row),
        before=tf.zeros((size,), dtype),
        blocks=row_blocks.zeros(rank, size, dtype),
        projected=tf.zeros((rank, rank), dtype),
        residual=tf.zeros((size,), dtype),
        operator_norm=tf.zeros((), dtype),
        breakdown=tf.zeros((rank,), tf.bool),
    )


def _remove_near(state: _State, product: tf.Tensor, rank: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes rows j - 1 and j out of A q_j; returns their coefficients, shape (k,), and the rest.

    These two components are large and go first. What a pass over all rows then removes is small, so
    that an error in the orthogonality of earlier rows is not amplified from row to row.
    """
    weights = tf.stack(
        [tf.tensordot(state.before, product, 1), tf.tensordot(state.row, product, 1)]
    )
    rest = product - weights[0] * state.before - weights[1] * state.row
    # At j = 0 the row before is zero, and so is its weight.
    places = tf.stack([tf.maximum(state.index - 1, 0), state.index])
    return tf.scatter_nd(places[:, None], weights, (rank,)), rest


def _next_row(
    blocks: row_blocks.Blocks,
    search: _Search,
    index: tf.Tensor,
    operator_norm: tf.Tensor,
    reorthogonalize: bool,
    append: tf.Tensor | None,
    seed: tf.Tensor,
) -> _Search:
    """Finds what comes after row `index`: what is left of A q_j, `append`, or a random vector.

    All that is made orthogonal goes through one place, one pass a round, so that the program has
    one copy of it.
    """
    rank = int(search.coefficients.shape[0])
    is_last = tf.equal(index, rank - 1)
    append_now = tf.equal(index, rank - 2) if append is not None else tf.constant(False)

    def after_krylov(residual: tf.Tensor) -> tf.Tensor:
        broke = _is_rounding(residual, operator_norm)
        task = tf.where(append_now, _APPEND, tf.where(broke, _RANDOM, _DONE))
        return tf.where(is_last, _DONE, task)

    def body(*fields: tf.Tensor) -> _Search:
        state = _Search(*fields)
        vector = tf.cond(
            tf.equal(state.task, _RANDOM),
            lambda: _random_vector(state.vector, seed, index + 1),
            lambda: state.vector,
        )
        if append is not None:
            vector = tf.where(tf.equal(state.task, _APPEND), append, vector)
        found, left = row_blocks.remove(blocks, vector, index + 1)
        is_first_pass = tf.equal(state.task, _KRYLOV)
        of_krylov = state.task <= _KRYLOV_AGAIN
        residual = tf.where(of_krylov, left, state.residual)
        cancelled = is_first_pass & (_norm(left) < _CANCELLATION * _norm(vector))
        broke = _is_rounding(residual, operator_norm)
        task = tf.where(
            of_krylov, tf.where(cancelled, _KRYLOV_AGAIN, after_krylov(residual)), state.task + 1
        )
        usable = tf.constant(True)
        if append is not None:
            # Less than the root of the precision left over means it lies in the span so far.
            usable = _norm(left) > _epsilon(left.dtype) ** 0.5 * _norm(append)
            rejected = tf.where(broke, _RANDOM, _DONE)
            is_end = tf.equal(state.task, _APPEND_AGAIN)
            task = tf.where(is_end, tf.where(usable, _DONE, rejected), task)
            usable |= ~is_end
        return _Search(
            task=task,
            vector=left,
            coefficients=state.coefficients + tf.where(is_first_pass, found, 0),
            residual=residual,
            row=tf.where(usable, left, residual),
        )

    # The last row sees its coefficients in all rows where one of them was appended.
    all_rows = tf.constant(True) if reorthogonalize else is_last & (append is not None)
    search = search._replace(
        task=tf.where(all_rows, _KRYLOV, after_krylov(search.residual)),
    )
    return _Search(*tf.while_loop(lambda task, *_: task < _DONE, body, search))


def _is_rounding(residual: tf.Tensor, operator_norm: tf.Tensor) -> tf.Tensor:
    """Whether what is left of a product is its own rounding noise, without a direction."""
    return ~(_norm(residual) > 10 * _epsilon(residual.dtype) * operator_norm)


def _random_vector(like: tf.Tensor, seed: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_normal(like.shape, seed + tf.stack([0, index]), dtype=like.dtype)


def _norm(vector: tf.Tensor) -> tf.Tensor:
    # As a dot product, of which XLA writes no vector of squares.
    return tf.sqrt(tf.tensordot(vector, vector, 1))


def _normalised(vector: tf.Tensor) -> tf.Tensor:
    norm = _norm(vector)
    return tf.where(norm > 0, vector / norm, vector)


def _set_row(matrix: tf.Tensor, index: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    return tf.tensor_scatter_nd_update(matrix, [[index]], row[None])


def _epsilon(dtype: tf.DType) -> float:
    return float(np.finfo(dtype.as_numpy_dtype).eps)
