"""A step on a noisy batch: one gradient, and now and then one Hessian-vector product.

The direction comes from averages over batches (`preconditioner.averages`), its length from products
along it (`newton.lengths`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_sfn.curvature import products
from keras_sfn.curvature import survey as survey_lib
from keras_sfn.krylov import vectors
from keras_sfn.newton import lengths
from keras_sfn.newton import step as step_lib
from keras_sfn.objective import constraints
from keras_sfn.objective import objective as objective_lib
from keras_sfn.optimizers import last_step, step_program
from keras_sfn.preconditioner import averages as averages_lib

_ACCEPTED, _NO_DECREASE, _LOSS, _GRADIENT = range(4)
_CANDIDATE = step_lib.OUTCOMES.index("candidate not finite")


class _Seen(NamedTuple):
    """What one pass over the batch gives."""

    loss: tf.Tensor
    outputs: Any
    updates: list[tf.Tensor]
    gradient: tf.Tensor
    averages: averages_lib.Values
    along: tf.Tensor  # (n,), the direction that was made before this batch was seen
    slope: tf.Tensor  # (), of the loss down along it


def run(
    loss: survey_lib.FrozenLoss,
    again: Callable[[], objective_lib.Loss],
    averages: averages_lib.Averages,
    learning_rate: tf.Tensor,
    max_step_norm: float | None,
    dimension: int,
) -> tuple[step_program.Computed, Sequence[keras.Variable]]:
    """Computes a step and keeps the averages.

    Args:
        loss: Of the batch.
        again: Makes the same loss anew, for another function than the one of the gradient.
        averages: State.
        learning_rate: Scalar factor on the step.
        max_step_norm: Largest Euclidean norm of a step, or None.
        dimension: For how many Ritz values the figures have room.

    Returns:
        What was computed, and the variables to which its updates belong.
    """
    updated: list[keras.Variable] = []
    space = loss.whole.space
    before = averages.read()
    state = lengths.State(*tf.unstack(before.lengths))

    def see(_: bool) -> _Seen:
        values = space.values()
        evaluation, gradient = loss.whole.evaluation_and_gradient(values, hold_constants=True)
        updated[:] = [variable for variable, _ in evaluation.updates]
        allowed = constraints.Constraints(space, values, gradient)
        after = averages_lib.following(averages.blocks, before, allowed.gradient)
        first = tf.equal(before.count, 0)
        along = tf.where(first, after.direction, before.direction)
        return _Seen(
            evaluation.loss,
            evaluation.outputs,
            [value for _, value in evaluation.updates],
            allowed.gradient,
            after,
            along,
            -vectors.dot(allowed.gradient, along),
        )

    seen: _Seen = step_program.compiled(see, loss, False)()
    finite = tf.math.is_finite(seen.loss) & tf.reduce_all(tf.math.is_finite(seen.gradient))
    away = lengths.ran_away(state, seen.loss) | ~finite
    due = lengths.is_due(state) & ~away
    slope = tf.where(away, tf.constant(np.nan, seen.slope.dtype), seen.slope)
    state = lengths.sloped(state, slope)
    fresh = loss._replace(whole=again())

    def look(_: bool) -> tuple[tf.Tensor, tf.Tensor]:
        values = space.values()
        matvec = products.hessian_vector_product(again(), values, loss.survey.hvp_mode)
        trial = fresh.whole.loss(space.displaced(values, state.length * seen.along))
        return vectors.dot(seen.along, matvec(seen.along)), trial

    def looked() -> lengths.State:
        curvature, trial = step_program.compiled(look, fresh, False)()
        square = vectors.dot(seen.along, seen.along)
        return lengths.looked(state, lengths.Look(seen.slope, curvature, square, seen.loss, trial))

    state = lengths.State(*tf.cond(due, looked, lambda: state))
    length = state.length
    state = lengths.stepped(state, seen.loss, away)

    values = space.values()
    here = space.flatten(values)
    step = learning_rate * length * seen.averages.direction
    if max_step_norm is not None:
        norm = tf.norm(step)
        step = step * tf.where(norm > max_step_norm, max_step_norm / norm, 1)
    step = constraints.Constraints(space, values, seen.gradient).step(step)
    usable = tf.reduce_all(tf.math.is_finite(step))
    going = ~away & usable
    has_safe = state.length > 0
    back = tf.where(away & has_safe, before.safe - here, tf.zeros_like(here))
    step = tf.where(going, step, back)
    after = tf.nest.map_structure(lambda new, old: tf.where(going, new, old), seen.averages, before)
    after = after._replace(
        mean=tf.where(going, after.mean, tf.zeros_like(after.mean)),
        safe=tf.where(due, here, before.safe),
        lengths=tf.stack(state),
    )
    averages.keep(averages.renewed(after))

    outcome = tf.where(going, _ACCEPTED, tf.where(away, _NO_DECREASE, _CANDIDATE))
    gradient_lost = ~tf.reduce_all(tf.math.is_finite(seen.gradient))
    outcome = tf.where(gradient_lost, _GRADIENT, outcome)
    outcome = tf.where(tf.math.is_finite(seen.loss), outcome, _LOSS)
    unknown = tf.constant(np.nan, seen.loss.dtype)
    promised = length * state.slope - length**2 * state.curvature / 2
    result = step_lib.StepResult(
        step=step,
        outcome=outcome,
        loss=tf.where(going, unknown, seen.loss),
        predicted_reduction=promised,
        damping=tf.zeros_like(length),
        next_damping=tf.zeros_like(length),
        ritz_values=tf.stack([state.rayleigh]),
        shift=tf.zeros_like(length),
        norm=tf.norm(step),
        too_long=tf.constant(False),
    )
    figures = last_step.pack(result, seen.loss, seen.gradient, dimension, ratio=state.ratio)
    computed = step_program.Computed(seen.loss, seen.outputs, seen.updates, result, figures)
    return computed, updated
