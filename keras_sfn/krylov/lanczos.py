"""Lanczos tridiagonalisation of a symmetric operator that is known only by its products.

The recurrence, with q_0 = start / |start| and beta_0 = 0:

    w = A q_j - beta_j q_{j-1},   alpha_j = q_j' w,   w <- w - alpha_j q_j,
    beta_{j+1} = |w|,   q_{j+1} = w / beta_{j+1}

Reorthogonalisation is a Gram-Schmidt pass over earlier rows after the recurrence (and a second
one over all rows where the first cancelled a good part of w). Over all rows it keeps the basis
orthonormal to rounding; over those rows only from which w has drifted (`orthogonality`), to the
root of the precision, which is as good for the projected matrix.

Reference: Golub and Van Loan, Matrix Computations, chapter 10; for the order of the recurrence
Paige, Journal of the Institute of Mathematics and its Applications 10 (1972); for "when is a second
pass needed" Daniel, Gragg, Kaufman and Stewart, Mathematics of Computation 30 (1976).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import tensorflow as tf

from keras_sfn.krylov import loops, orthogonality, precision, ritz, row_blocks, vectors

# A second Gram-Schmidt pass runs where the first leaves less than this fraction of the vector.
_CANCELLATION = 0.5**0.5

# Which earlier rows each new one is orthogonalised against, beyond the recurrence.
Reorthogonalisation: TypeAlias = Literal["full", "partial", "none"]


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
    """What `tridiagonalise` returns: as `LanczosResult`, with the basis as it was built."""

    blocks: row_blocks.Blocks
    projected: tf.Tensor
    residual: tf.Tensor
    breakdown: tf.Tensor


class _State(NamedTuple):
    """What the loop carries: the row in turn and all that has been found so far."""

    # Vectors are as the row before left them, so that none is copied from one place to another.
    index: tf.Tensor  # (), the row in turn
    ahead: tf.Tensor  # (n,), the row in turn times its length, not yet in the basis
    length: tf.Tensor  # ()
    link: tf.Tensor  # (), A's entry between it and the row before; zero if it is no Krylov vector
    behind: tf.Tensor  # (n,), the row before times minus that entry
    blocks: row_blocks.Blocks  # rows from `index` on are zero
    projected: tf.Tensor  # (k, k), row j holds the coefficients of A q_j
    operator_norm: tf.Tensor  # (), the largest |A q| so far, a lower bound of |A|
    breakdown: tf.Tensor  # (k,)
    overlaps: orthogonality.Overlaps  # of the row in turn and the one before


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
    kind: Reorthogonalisation = "full" if reorthogonalize else "none"
    krylov = tridiagonalise(matvec, start, num_steps, kind, append=append, seed=seed)
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


def tridiagonalise(
    matvec: Callable[[tf.Tensor], tf.Tensor],
    start: tf.Tensor,
    num_steps: int,
    reorthogonalisation: Reorthogonalisation = "full",
    *,
    append: tf.Tensor | None = None,
    seed: tf.Tensor | tuple[int, int] = (0, 0),
) -> Krylov:
    """Does what `lanczos` does, without a copy of the basis; most arguments are the same.

    Args:
        matvec: The symmetric operator.
        start: Shape (n,).
        num_steps: Number k of rows, clipped to n.
        reorthogonalisation: `"full"`, `"none"`, or `"partial"`: the basis is orthonormal to the
            root of the precision, the projected matrix to rounding that of an orthonormal one.
        append: Optional vector of shape (n,).
        seed: Two integers.
    """
    size = _check_arguments(start, num_steps, append)
    rank = min(int(num_steps), size)
    seed = tf.cast(tf.convert_to_tensor(seed), tf.int32)
    appended = append if rank > 1 else None

    def body(*fields: tf.Tensor) -> _State:
        state = _State(*fields)
        row = _normalised(state.ahead, state.length)
        state = state._replace(blocks=row_blocks.set_row(state.blocks, state.index, row))
        return _advance(state, row, matvec(row), reorthogonalisation, appended, seed)

    # Iterations that overlap would hold the vectors of several.
    first = _first(start, rank, seed)
    state = _State(
        *tf.while_loop(lambda index, *_: index < rank, body, first, parallel_iterations=1)
    )
    # Row j of the recorded coefficients is A q_j seen from rows 0 to j: the lower triangle. The
    # entries above it were zero when they were taken, for lack of the later rows.
    return Krylov(
        blocks=state.blocks,
        projected=ritz.mirrored(state.projected),
        residual=tf.where(tf.not_equal(state.link, 0), state.ahead, 0),
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
    norm = vectors.norm(start)
    row = tf.cond(
        tf.math.is_finite(norm) & (norm > 0),
        lambda: start,
        lambda: _random_vector(start, seed, tf.constant(0)),
    )
    return _State(
        index=tf.constant(0),
        ahead=row,
        length=vectors.norm(row),
        link=tf.zeros((), dtype),
        behind=tf.zeros((size,), dtype),
        blocks=row_blocks.zeros(rank, size, dtype),
        projected=tf.zeros((rank, rank), dtype),
        operator_norm=tf.zeros((), dtype),
        breakdown=tf.zeros((rank,), tf.bool),
        overlaps=orthogonality.first(rank, dtype),
    )


def _advance(
    state: _State,
    row: tf.Tensor,
    product: tf.Tensor,
    reorthogonalisation: Reorthogonalisation,
    append: tf.Tensor | None,
    seed: tf.Tensor,
) -> _State:
    """Goes from row j, `row`, now in the basis, to the next one; `product` is A q_j."""
    index, rank = state.index, int(state.projected.shape[0])
    # These two components are large and go first. What a pass over the rows then removes is small,
    # so that an error in the orthogonality of earlier rows is not amplified from row to row.
    alpha = vectors.dot(row, product)
    rest = product + state.behind - alpha * row
    norm = vectors.norm(rest)
    operator_norm = tf.maximum(state.operator_norm, tf.norm(tf.stack([alpha, state.link, norm])))
    places = tf.stack([tf.maximum(index - 1, 0), index])
    coefficients = tf.scatter_nd(places[:, None], tf.stack([state.link, alpha]), (rank,))
    estimate = orthogonality.following(state.overlaps, index, alpha, norm, operator_norm)

    is_last = tf.equal(index, rank - 1)
    # The last row sees its coefficients in all rows where one of them was appended.
    of_appended = is_last if append is not None else tf.constant(False)
    filled = tf.range(rank) <= index
    doubtful = {
        "full": filled,
        "partial": filled & (of_appended | orthogonality.too_large(estimate)),
        "none": filled & of_appended,
    }[reorthogonalisation]
    wanted = row_blocks.with_any(state.blocks, doubtful)
    found, residual, norm = _orthogonalised(state.blocks, rest, norm, wanted, filled)
    removed = row_blocks.rows_of(state.blocks, wanted)
    clean = precision.epsilon(norm.dtype) * tf.cast(filled, norm.dtype)
    estimate = tf.where(removed, clean, estimate)

    broke = _is_rounding(norm, operator_norm)
    append_now = tf.equal(index, rank - 2) if append is not None else tf.constant(False)
    replaced = ~is_last & (append_now | broke)
    ahead, length, is_krylov = loops.at_most_once(
        replaced,
        lambda ahead, length, _: _replacement(
            state.blocks, ahead, length, broke, append_now, filled, append, seed
        ),
        residual,
        norm,
        tf.constant(True),
    )
    link = tf.where(is_krylov, length, 0)
    return _State(
        index=index + 1,
        ahead=ahead,
        length=length,
        link=link,
        behind=-link * row,
        blocks=state.blocks,
        projected=_set_row(state.projected, index, coefficients + found),
        operator_norm=operator_norm,
        breakdown=tf.where(tf.range(rank) == index, broke, state.breakdown),
        overlaps=orthogonality.advance(
            state.overlaps, index, tf.where(is_krylov, estimate, clean), alpha, link
        ),
    )


def _orthogonalised(
    blocks: row_blocks.Blocks,
    vector: tf.Tensor,
    norm: tf.Tensor,
    wanted: tf.Tensor,
    filled: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Makes a vector orthogonal to the wanted blocks, and to all where that cancels much of it.

    Returns the coefficients of the first pass, what is left, and its norm.
    """

    def again(
        pass_: tf.Tensor, wanted: tf.Tensor, _: tf.Tensor, vector: tf.Tensor, norm: tf.Tensor
    ) -> tf.Tensor:
        return tf.reduce_any(wanted)

    def body(
        pass_: tf.Tensor,
        wanted: tf.Tensor,
        coefficients: tf.Tensor,
        vector: tf.Tensor,
        norm: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        found, vector = row_blocks.remove(blocks, vector, wanted)
        is_first = tf.equal(pass_, 0)
        after = vectors.norm(vector)
        cancelled = is_first & (after < _CANCELLATION * norm)
        wanted = row_blocks.with_any(blocks, filled & cancelled)
        return pass_ + 1, wanted, coefficients + tf.where(is_first, found, 0), vector, after

    nothing = tf.zeros_like(filled, vector.dtype)
    start = (tf.constant(0), wanted, nothing, vector, norm)
    return tf.while_loop(again, body, start)[2:]


def _replacement(
    blocks: row_blocks.Blocks,
    row: tf.Tensor,
    length: tf.Tensor,
    broke: tf.Tensor,
    append_now: tf.Tensor,
    filled: tf.Tensor,
    append: tf.Tensor | None,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns what comes after a row in the place of a Krylov vector, its norm, and whether.

    That is `append` where it is wanted now and not in the span so far, a random vector where the
    Krylov space is exhausted, and else the Krylov vector `row` after all.
    """
    every = row_blocks.with_any(blocks, filled)

    def pass_over(vector: tf.Tensor) -> tf.Tensor:
        # Two passes, in a loop, so that the program has one copy of them.
        return tf.while_loop(
            lambda pass_, _: pass_ < 2,
            lambda pass_, vector: (pass_ + 1, row_blocks.remove(blocks, vector, every)[1]),
            (tf.constant(0), vector),
        )[1]

    def try_(
        task: tf.Tensor, row: tf.Tensor, length: tf.Tensor, is_krylov: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        # With the task in its seed XLA cannot draw the vector ahead of the loop, at every row.
        number = tf.reduce_sum(tf.cast(filled, tf.int32)) + task - _RANDOM
        candidate = _random_vector(row, seed, number)
        if append is not None:
            candidate = tf.where(tf.equal(task, _APPEND), append, candidate)
        left = pass_over(candidate)
        norm = vectors.norm(left)
        # Less than the root of the precision left over means it lies in the span so far.
        in_span = ~(norm > precision.epsilon(left.dtype) ** 0.5 * vectors.norm(candidate))
        usable = tf.not_equal(task, _APPEND) | ~in_span
        task = tf.where(usable | ~broke, _DONE, _RANDOM)
        return (
            task,
            tf.where(usable, left, row),
            tf.where(usable, norm, length),
            is_krylov & ~usable,
        )

    start = (tf.where(append_now, _APPEND, _RANDOM), row, length, tf.constant(True))
    return tf.while_loop(lambda task, *_: task < _DONE, try_, start)[1:]


# What `_replacement` tries.
_APPEND, _RANDOM, _DONE = range(3)


def _is_rounding(norm: tf.Tensor, operator_norm: tf.Tensor) -> tf.Tensor:
    """Whether what is left of a product is its own rounding noise, without a direction."""
    return ~(norm > 10 * precision.epsilon(norm.dtype) * operator_norm)


def _random_vector(like: tf.Tensor, seed: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_normal(like.shape, seed + tf.stack([0, index]), dtype=like.dtype)


def _normalised(vector: tf.Tensor, norm: tf.Tensor) -> tf.Tensor:
    return vector * tf.where(norm > 0, 1 / norm, 1)


def _set_row(matrix: tf.Tensor, index: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    return tf.tensor_scatter_nd_update(matrix, [[index]], row[None])
