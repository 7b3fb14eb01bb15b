"""The subspace of a step: which one it is, and the maps to its coordinates and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_sfn.krylov import lanczos as lanczos_lib
from keras_sfn.krylov import ritz as ritz_lib
from keras_sfn.krylov import row_blocks, vectors
from keras_sfn.newton import damping as damping_lib
from keras_sfn.newton import directions
from keras_sfn.preconditioner import subspace as preconditioned


class Problem(NamedTuple):
    """The function to lower, frozen for one step, on flat vectors of shape (n,).

    Attributes:
        loss: Displacement from the current point -> scalar loss. (No point: as a vector it would be
            held beside the variables during the whole step.)
        gradient: Displacement from it -> gradient of the loss, shape (n,).
        matvec: v -> H v, the Hessian at the current point (perhaps of a part of the batch).
        hessian: () -> that Hessian, shape (n, n); needed where `Settings.krylov_dimension` is None.
        agree: What several processes that compute one step pass their results through, so that
            they go on from the same numbers: each decides for itself which evaluation is next.
        preconditioning: Of the directions in the subspace, or None for a Krylov subspace.
    """

    loss: Callable[[tf.Tensor], tf.Tensor]
    gradient: Callable[[tf.Tensor], tf.Tensor]
    matvec: Callable[[tf.Tensor], tf.Tensor]
    hessian: Callable[[], tf.Tensor] | None = None
    agree: Callable[[tf.Tensor], tf.Tensor] = lambda value: value
    preconditioning: preconditioned.Preconditioning | None = None


class Settings(NamedTuple):
    """Hyper-parameters that are fixed when the step is traced.

    Attributes:
        damping: The damping policy.
        krylov_dimension: Lanczos vectors a step; None for the whole space, by the dense Hessian.
        inner_steps: Steps in one subspace.
        reorthogonalize: Whether Lanczos vectors are kept orthonormal, to the root of the precision.
        max_step_norm: Largest Euclidean norm of a step, or None.
        direction: What the method makes of the eigenvalues, as in `damping.SubspaceLoss`.
        leave_saddles: Whether a step that gets nowhere goes along negative curvature instead.
    """

    damping: damping_lib.Damping
    krylov_dimension: int | None
    inner_steps: int = 1
    reorthogonalize: bool = True
    max_step_norm: float | None = None
    direction: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor] = (
        directions.saddle_free_direction
    )
    leave_saddles: bool = True


class Subspace(NamedTuple):
    """A subspace of dimension k, in the coordinates of its Ritz vectors.

    Attributes:
        ritz: Its Ritz pairs.
        gradient: Shape (k,), the coordinates of the gradient from which it was built.
        reduce: Maps a vector of shape (n,) to its coordinates, shape (k,).
        expand: Maps coordinates to the vector of shape (n,).
        shift: Scalar, with which its directions were preconditioned, or None.
    """

    ritz: ritz_lib.RitzPairs
    gradient: tf.Tensor
    reduce: Callable[[tf.Tensor], tf.Tensor]
    expand: Callable[[tf.Tensor], tf.Tensor]
    shift: tf.Tensor | None = None


def basis_rows(settings: Settings, size: int, use_previous_step: bool) -> int:
    """Returns how many vectors of length `size` the basis of a step holds."""
    if settings.krylov_dimension is None:
        return size
    return min(settings.krylov_dimension + use_previous_step, size)


def build(
    problem: Problem,
    settings: Settings,
    gradient: tf.Tensor,
    previous_step: tf.Tensor | None,
    damping: tf.Tensor,
    seed: tf.Tensor,
) -> Subspace:
    """Returns the subspace of a step.

    Args:
        problem: What is lowered.
        settings: Which subspace is built.
        gradient: Shape (n,).
        previous_step: Shape (n,), joins the subspace, or None.
        damping: Scalar state of the damping policy.
        seed: Shape (2,) integers for random directions.
    """
    rows = basis_rows(settings, int(gradient.shape[0]), previous_step is not None)
    if settings.krylov_dimension is None:
        return _whole_space(problem, gradient)
    if problem.preconditioning is not None:
        scaled = preconditioned.build(
            problem.matvec,
            gradient,
            rows,
            problem.preconditioning,
            append=previous_step,
            damping=damping,
            seed=seed,
        )
        return _of_rows(problem, scaled.blocks, scaled.ritz, scaled.gradient, scaled.shift)
    krylov = lanczos_lib.build(
        problem.matvec,
        gradient,
        rows,
        "partial" if settings.reorthogonalize else "none",
        append=previous_step,
        seed=seed,
    )
    # The first row is the gradient's direction: by its norm alone the vector itself need not be
    # held while the others are made.
    coordinates = vectors.norm(gradient) * tf.one_hot(0, rows, dtype=gradient.dtype)
    return _of_rows(problem, krylov.blocks, ritz_lib.ritz_pairs(krylov.projected), coordinates)


def _whole_space(problem: Problem, gradient: tf.Tensor) -> Subspace:
    """The eigenvectors themselves are the basis."""
    assert problem.hessian is not None
    hessian = problem.hessian()
    ritz = ritz_lib.ritz_pairs((hessian + tf.transpose(hessian)) / 2, on_host=True)
    ritz = _agreed(problem, ritz)

    def reduce(vector: tf.Tensor) -> tf.Tensor:
        return problem.agree(tf.linalg.matvec(ritz.vectors, vector, True))

    return Subspace(
        ritz, reduce(gradient), reduce, lambda position: tf.linalg.matvec(ritz.vectors, position)
    )


def _of_rows(
    problem: Problem,
    blocks: row_blocks.Blocks,
    ritz: ritz_lib.RitzPairs,
    coordinates: tf.Tensor,
    shift: tf.Tensor | None = None,
) -> Subspace:
    """Returns the subspace of stored rows, from Ritz pairs and gradient in their coordinates."""
    ritz = _agreed(problem, ritz)

    def rotated(coordinates: tf.Tensor) -> tf.Tensor:
        return problem.agree(tf.linalg.matvec(ritz.vectors, coordinates, True))

    def reduce(vector: tf.Tensor) -> tf.Tensor:
        return rotated(row_blocks.project(blocks, vector))

    def expand(position: tf.Tensor) -> tf.Tensor:
        return row_blocks.combine(blocks, tf.linalg.matvec(ritz.vectors, position))

    return Subspace(ritz, rotated(coordinates), reduce, expand, shift)


def _agreed(problem: Problem, ritz: ritz_lib.RitzPairs) -> ritz_lib.RitzPairs:
    both = problem.agree(tf.concat([ritz.values[None], ritz.vectors], axis=0))
    return ritz._replace(values=both[0], vectors=both[1:])
