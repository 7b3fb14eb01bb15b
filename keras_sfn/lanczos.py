"""Lanczos tridiagonalisation of a symmetric operator that is known only by its products.

The recurrence, with q_0 = start / |start|:

    w = A q_j,   alpha_j = q_j' w,   w <- w - alpha_j q_j - beta_{j-1} q_{j-1},
    beta_j = |w|,   q_{j+1} = w / beta_j

With reorthogonalisation a classical Gram-Schmidt pass over all rows follows the recurrence (and a
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


class _State(NamedTuple):
    """What the loop carries: the row in turn and all that has been found so far."""

    index: tf.Tensor  # (), the row in turn
    row: tf.Tensor  # (n,), the row in turn itself, not yet in the basis
    basis: tf.Tensor  # (k, n), rows from `index` on are zero
    projected: tf.Tensor  # (k, k), row j holds the coefficients of A q_j
    residual: tf.Tensor  # (n,)
    operator_norm: tf.Tensor  # (), the largest |A q| so far, a lower bound of |A|
    breakdown: tf.Tensor  # (k,)


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
    size = _check_arguments(start, num_steps, append)
    rank = min(int(num_steps), size)
    seed = tf.cast(tf.convert_to_tensor(seed), tf.int32)

    def body(*fields: tf.Tensor) -> _State:
        state = _State(*fields)
        basis = _set_row(state.basis, state.index, state.row)
        product = matvec(state.row)
        is_last = tf.equal(state.index, rank - 1)
        all_rows = reorthogonalize or (append is not None and is_last)
        coefficients, residual = _remove_rows(basis, product, state.index, all_rows)
        operator_norm = tf.maximum(state.operator_norm, tf.norm(product))
        broke = _is_rounding(residual, operator_norm)
        return _State(
            index=state.index + 1,
            row=_next_row(basis, residual, broke, state.index + 1, append, seed),
            basis=basis,
            projected=_set_row(state.projected, state.index, coefficients),
            residual=residual,
            operator_norm=operator_norm,
            breakdown=tf.where(tf.range(rank) == state.index, broke, state.breakdown),
        )

    state = _State(*tf.while_loop(lambda index, *_: index < rank, body, _first(start, rank, seed)))
    # Row j of the recorded coefficients is A q_j seen from rows 0 to j: the lower triangle. The
    # entries above it were zero when they were taken, for lack of the later rows.
    lower = tf.linalg.band_part(state.projected, -1, 0)
    diagonal = tf.linalg.diag_part(lower)
    projected = lower + tf.transpose(lower) - tf.linalg.diag(diagonal)
    return LanczosResult(
        basis=state.basis,
        diagonal=diagonal,
        off_diagonal=tf.linalg.diag_part(projected, k=1) if rank > 1 else diagonal[:0],
        projected=projected,
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
    norm = tf.norm(start)
    basis = tf.zeros((rank, size), dtype)
    row = tf.cond(
        tf.math.is_finite(norm) & (norm > 0),
        lambda: start / norm,
        lambda: _random_row(basis, seed, tf.constant(0)),
    )
    return _State(
        index=tf.constant(0),
        row=row,
        basis=basis,
        projected=tf.zeros((rank, rank), dtype),
        residual=tf.zeros((size,), dtype),
        operator_norm=tf.zeros((), dtype),
        breakdown=tf.zeros((rank,), tf.bool),
    )


def _remove_rows(
    basis: tf.Tensor, product: tf.Tensor, index: tf.Tensor, all_rows: bool | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits A q_j into its coefficients in the basis, shape (k,), and what is left, (n,)."""
    # The two large components go first. What the pass over all rows then removes is small, so that
    # an error in the orthogonality of earlier rows is not amplified from row to row.
    before = tf.maximum(index - 1, 0)
    near = tf.stack([basis[before], basis[index]])
    weights = tf.linalg.matvec(near, product)
    # At j = 0 both are the same row: it counts once.
    weights *= tf.cast(tf.stack([index > 0, True]), weights.dtype)
    residual = product - tf.linalg.matvec(near, weights, transpose_a=True)
    coefficients = tf.scatter_nd([[before], [index]], weights, (basis.shape[0],))

    def against_all() -> tuple[tf.Tensor, tf.Tensor]:
        rest = tf.linalg.matvec(basis, residual)
        left = residual - tf.linalg.matvec(basis, rest, transpose_a=True)
        left = tf.cond(
            tf.norm(left) < _CANCELLATION * tf.norm(residual),
            lambda: _orthogonalise(basis, left),
            lambda: left,
        )
        return coefficients + rest, left

    if isinstance(all_rows, bool):
        return against_all() if all_rows else (coefficients, residual)
    return tf.cond(all_rows, against_all, lambda: (coefficients, residual))


def _is_rounding(residual: tf.Tensor, operator_norm: tf.Tensor) -> tf.Tensor:
    """Whether what is left of a product is its own rounding noise, without a direction."""
    return ~(tf.norm(residual) > 10 * _epsilon(residual.dtype) * operator_norm)


def _next_row(
    basis: tf.Tensor,
    residual: tf.Tensor,
    broke: tf.Tensor,
    index: tf.Tensor,
    append: tf.Tensor | None,
    seed: tf.Tensor,
) -> tf.Tensor:
    def krylov() -> tf.Tensor:
        return tf.cond(
            broke,
            lambda: _random_row(basis, seed, index),
            lambda: residual / tf.norm(residual),
        )

    if append is None:
        return krylov()

    def appended() -> tf.Tensor:
        left = _orthogonalise(basis, _orthogonalise(basis, append))
        norm = tf.norm(left)
        # Less than the root of the precision left over means it lies in the span so far.
        usable = norm > _epsilon(basis.dtype) ** 0.5 * tf.norm(append)
        return tf.cond(usable, lambda: left / norm, krylov)

    return tf.cond(tf.equal(index, basis.shape[0] - 1), appended, krylov)


def _random_row(basis: tf.Tensor, seed: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    seed = seed + tf.stack([0, index])
    row = tf.random.stateless_normal((basis.shape[1],), seed, dtype=basis.dtype)
    row = _orthogonalise(basis, _orthogonalise(basis, row))
    norm = tf.norm(row)
    return tf.where(norm > 0, row / norm, row)


def _orthogonalise(basis: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    coefficients = tf.linalg.matvec(basis, vector)
    return vector - tf.linalg.matvec(basis, coefficients, transpose_a=True)


def _set_row(matrix: tf.Tensor, index: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    return tf.tensor_scatter_nd_update(matrix, [[index]], row[None])


def _epsilon(dtype: tf.DType) -> float:
    return float(np.finfo(dtype.as_numpy_dtype).eps)
