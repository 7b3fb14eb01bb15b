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

from keras_sfn.backend import collectives, graphs
from keras_sfn.curvature import products
from keras_sfn.curvature import survey as survey_lib
from keras_sfn.krylov import vectors
from keras_sfn.newton import lengths
from keras_sfn.newton import step as step_lib
from keras_sfn.objective import constraints, replicas
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

    def is_finite(self) -> tf.Tensor:
        return tf.math.is_finite(self.loss) & self.has_finite_gradient()

    def has_finite_gradient(self) -> tf.Tensor:
        return tf.reduce_all(tf.math.is_finite(self.gradient))


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
    space = loss.whole.space
    before = averages.read()
    seen, updated = _see(loss, averages, before)
    state = lengths.State(*tf.unstack(before.lengths))
    away = lengths.ran_away(state, seen.loss) | ~seen.is_finite()
    slope = tf.where(away, tf.constant(np.nan, seen.slope.dtype), seen.slope)
    state = _looked(loss, again, seen, before, lengths.sloped(state, slope), ~away)

    values = space.values()
    here = space.flatten(values)
    onward = learning_rate * state.length * seen.averages.direction
    if max_step_norm is not None:
        norm = tf.norm(onward)
        onward = onward * tf.where(norm > max_step_norm, max_step_norm / norm, 1)
    onward = constraints.Constraints(space, values, seen.gradient).step(onward)
    going = ~away & tf.reduce_all(tf.math.is_finite(onward))
    # Before the first length there is no mean point.
    back = tf.where(away & (state.length > 0), before.mean_point - here, tf.zeros_like(here))
    step = collectives.agree(tf.where(going, onward, back))

    length = state.length
    state = lengths.stepped(state, seen.loss, away)
    after = averages_lib.chosen(going, seen.averages, before)
    averages.keep(
        after._replace(
            mean=tf.where(going, after.mean, tf.zeros_like(after.mean)),
            mean_point=averages_lib.mean_point(before, here, state, away),
            lengths=tf.stack(state),
        )
    )
    result = _result(seen, state, length, step, going, away)
    figures = last_step.pack(result, seen.loss, seen.gradient, dimension, ratio=state.ratio)
    computed = step_program.Computed(seen.loss, seen.outputs, seen.updates, result, figures)
    return computed, updated


def _see(
    loss: survey_lib.FrozenLoss, averages: averages_lib.Averages, before: averages_lib.Values
) -> tuple[_Seen, list[keras.Variable]]:
    """Takes the gradient, and returns with it the variables to which the updates belong."""
    updated: list[keras.Variable] = []
    space = loss.whole.space

    def see(_: bool) -> _Seen:
        values = space.values()
        evaluation, gradient = loss.whole.evaluation_and_gradient(values, hold_constants=True)
        updated[:] = [variable for variable, _ in evaluation.updates]
        gradient = constraints.Constraints(space, values, gradient).gradient
        after = averages_lib.following(averages.blocks, before, gradient)
        first = tf.equal(before.count, 0)
        along = tf.where(first, after.direction, before.direction)
        return _Seen(
            evaluation.loss,
            evaluation.outputs,
            [value for _, value in evaluation.updates],
            gradient,
            after,
            along,
            collectives.agree(-vectors.dot(gradient, along)),
        )

    seen: _Seen = step_program.compiled(see, loss, False)()
    return seen, updated


def _looked(
    loss: survey_lib.FrozenLoss,
    again: Callable[[], objective_lib.Loss],
    seen: _Seen,
    before: averages_lib.Values,
    state: lengths.State,
    usable: tf.Tensor,
) -> lengths.State:
    """Returns the state of the length, after a look where one is due and the batch is usable."""
    space = loss.whole.space
    fresh = loss._replace(whole=again())

    def look(_: bool) -> lengths.Look:
        values = space.values()
        loss_at = fresh.whole.loss
        if not isinstance(fresh.whole, replicas.Replicas):
            loss_at = graphs.once(loss_at, tf.TensorSpec((space.size,), space.dtype))
        matvec = products.hessian_vector_product(again(), values, loss.survey.hvp_mode)
        curvature = vectors.dot(seen.along, matvec(seen.along))
        square = vectors.dot(seen.along, seen.along)
        curvature, square = tf.unstack(collectives.agree(tf.stack([curvature, square])))
        return lengths.Look(
            slope=seen.slope,
            curvature=curvature,
            square=square,
            loss=seen.loss,
            trial_loss=loss_at(space.flatten(values) + state.length * seen.along),
            mean_loss=loss_at(before.mean_point),
        )

    def looked() -> lengths.State:
        return lengths.looked(state, step_program.compiled(look, fresh, False)())

    due = lengths.is_due(state) & usable
    return lengths.State(*tf.cond(due, looked, lambda: state))


def _result(
    seen: _Seen,
    state: lengths.State,
    length: tf.Tensor,
    step: tf.Tensor,
    going: tf.Tensor,
    away: tf.Tensor,
) -> step_lib.StepResult:
    """Returns the step as the kinds of step have in common."""
    outcome = tf.where(going, _ACCEPTED, tf.where(away, _NO_DECREASE, _CANDIDATE))
    outcome = tf.where(seen.has_finite_gradient(), outcome, _GRADIENT)
    outcome = tf.where(tf.math.is_finite(seen.loss), outcome, _LOSS)
    unknown = tf.constant(np.nan, seen.loss.dtype)
    return step_lib.StepResult(
        step=step,
        outcome=outcome,
        loss=tf.where(going, unknown, seen.loss),
        predicted_reduction=length * state.slope - length**2 * state.curvature / 2,
        damping=tf.zeros_like(length),
        next_damping=tf.zeros_like(length),
        ritz_values=tf.stack([state.rayleigh]),
        shift=tf.zeros_like(length),
        norm=tf.norm(step),
        too_long=tf.constant(False),
    )
