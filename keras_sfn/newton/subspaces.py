"""The subspace of a step: its Ritz pairs, and the maps to its coordinates and back.

Three kinds: a Krylov space (`krylov_space`), the whole space (`whole_space`), and the span of
preconditioned directions (`keras_sfn.preconditioner.subspace`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_sfn.krylov import lanczos, row_blocks, vectors
from keras_sfn.krylov import ritz as ritz_lib

# Several processes that compute one step pass their results through this, so that they continue
# from the same numbers: each decides for itself which evaluation is next.
Agree = Callable[[tf.Tensor], tf.Tensor]


class Subspace(NamedTuple):
    """A subspace of dimension k, in the coordinates of its Ritz vectors.

    Attributes:
        ritz: Its Ritz pairs.
        gradient: Shape (k,), the coordinates of the gradient from which it was built.
        reduce: Maps a vector of shape (n,) to its coordinates, shape (k,).
        expand: Maps coordinates to the vector of shape (n,).
        shift: Scalar, with which its directions were preconditioned, or None.
        made: Scalar integer, how many directions it has; Ritz values after the first so many belong
            to none. None: all.
    """

    ritz: ritz_lib.RitzPairs
    gradient: tf.Tensor
    reduce: Callable[[tf.Tensor], tf.Tensor]
    expand: Callable[[tf.Tensor], tf.Tensor]
    shift: tf.Tensor | None = None
    made: tf.Tensor | None = None


class Start(NamedTuple):
    """From what the subspace of a step is made.

    Attributes:
        gradient: Shape (n,), at the current point.
        previous_step: Shape (n,), joins the subspace, or None.
        damping: Scalar state of the damping policy, negative before the first step.
        seed: Shape (2,) integers for random directions.
    """

    gradient: tf.Tensor
    previous_step: tf.Tensor | None
    damping: tf.Tensor
    seed: tf.Tensor


# Makes the subspace of a step.
Span = Callable[[Start], Subspace]


def dimension(directions: int | None, size: int, use_previous_step: bool) -> int:
    """Returns the dimension of a subspace.

    Args:
        directions: How many directions are made; None for the whole space.
        size: n, the number of parameters.
        use_previous_step: Whether the previous step joins.
    """
    if directions is None:
        return size
    return min(directions + use_previous_step, size)


def krylov_space(
    matvec: Callable[[tf.Tensor], tf.Tensor],
    directions: int,
    reorthogonalize: bool,
    agree: Agree,
) -> Span:
    """Returns what makes the Krylov space of the gradient.

    Args:
        matvec: v -> H v on shape (n,).
        directions: Lanczos vectors, one product each.
        reorthogonalize: Whether these are kept orthonormal, to the root of the precision.
        agree: See `Agree`.
    """

    def span(start: Start) -> Subspace:
        gradient, previous_step = start.gradient, start.previous_step
        rows = dimension(directions, int(gradient.shape[0]), previous_step is not None)
        krylov = lanczos.tridiagonalise(
            matvec,
            gradient,
            rows,
            "partial" if reorthogonalize else "none",
            append=previous_step,
            seed=start.seed,
        )
        # The first row is the gradient's direction: by its norm alone the vector itself need not be
        # held while the others are made.
        coordinates = vectors.norm(gradient) * tf.one_hot(0, rows, dtype=gradient.dtype)
        return of_rows(krylov.blocks, ritz_lib.ritz_pairs(krylov.projected), coordinates, agree)

    return span


def whole_space(hessian: Callable[[], tf.Tensor], agree: Agree) -> Span:
    """Returns what makes the whole space, with the eigenvectors of the Hessian as its basis.

    Args:
        hessian: () -> the Hessian, shape (n, n).
        agree: See `Agree`.
    """

    def span(start: Start) -> Subspace:
        matrix = hessian()
        ritz = ritz_lib.ritz_pairs((matrix + tf.transpose(matrix)) / 2, on_host=True)
        ritz, reduced = _agreed(ritz, start.gradient, agree)

        def reduce(vector: tf.Tensor) -> tf.Tensor:
            return agree(tf.linalg.matvec(ritz.vectors, vector, True))

        def expand(position: tf.Tensor) -> tf.Tensor:
            return tf.linalg.matvec(ritz.vectors, position)

        return Subspace(ritz, reduced, reduce, expand)

    return span


def of_rows(
    blocks: row_blocks.Blocks,
    ritz: ritz_lib.RitzPairs,
    coordinates: tf.Tensor,
    agree: Agree,
    *,
    shift: tf.Tensor | None = None,
    made: tf.Tensor | None = None,
) -> Subspace:
    """Returns the subspace that stored rows span.

    Args:
        blocks: The rows.
        ritz: Ritz pairs in the coordinates of the rows.
        coordinates: Shape (k,), of the gradient.
        agree: See `Agree`.
        shift: As in `Subspace`.
        made: As in `Subspace`.
    """
    ritz, reduced = _agreed(ritz, coordinates, agree)

    def reduce(vector: tf.Tensor) -> tf.Tensor:
        inner = row_blocks.project(blocks, vector)
        return agree(tf.linalg.matvec(ritz.vectors, inner, True))

    def expand(position: tf.Tensor) -> tf.Tensor:
        return row_blocks.combine(blocks, tf.linalg.matvec(ritz.vectors, position))

    return Subspace(ritz, reduced, reduce, expand, shift, made)


def _agreed(
    ritz: ritz_lib.RitzPairs, gradient: tf.Tensor, agree: Agree
) -> tuple[ritz_lib.RitzPairs, tf.Tensor]:
    """Returns Ritz pairs and the gradient along their vectors: one message."""
    reduced = tf.linalg.matvec(ritz.vectors, gradient, True)
    joined = agree(tf.concat([ritz.values[None], reduced[None], ritz.vectors], axis=0))
    return ritz._replace(values=joined[0], vectors=joined[2:]), joined[1]
