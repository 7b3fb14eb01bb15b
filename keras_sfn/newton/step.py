"""One saddle-free Newton step (Algorithm 1 of the paper), from a loss to a displacement.

    V          <- orthonormal basis of the Krylov space of H from the gradient, and the last step
    theta, U   <- eigenpairs of V H V'
    for j = 1 .. inner_steps:
        c      <- U' V grad f(x + V' U z)
        damping<- by the damping policy, on f itself
        z      <- z - learning_rate (|theta| + damping)^-1 c
    x          <- x + V' U z, unless that is not a step down

Knows neither Keras models nor variables: a loss, its gradient and its Hessian-vector product on
flat vectors of shape (n,) come in, a displacement goes out.

Departures from the paper, each with its reason:

- Reorthogonalisation: without it the small matrix gets copies of converged Ritz values. It is
  partial (module `orthogonality`): the small matrix is as good as with a pass over all vectors.
- Directions may be preconditioned instead (`keras_sfn.preconditioner`): a Krylov space sees the
  few largest curvatures of a deep network first, of thousands that matter.
- The grid of dampings is relative to the largest |Ritz value|, so that the scale of the loss does
  not matter, and after the first step only the neighbours of the last value are tried, which costs
  three evaluations of the loss instead of eight: see `damping.SearchDamping`.
- A step under `"search"` or `"adaptive"` that does not lower the loss of the batch is not taken.
- At a point whose gradient gives no descent but whose curvature is negative, the step goes along
  the most negative Ritz vector: |H|^-1 g alone stands still at an exact saddle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_sfn.krylov import precision
from keras_sfn.newton import damping as damping_lib
from keras_sfn.newton import directions, subspaces

# Lengths tried along a direction of negative curvature where the gradient says nothing. The
# quadratic model has no bound there, so the loss itself decides, in both directions.
_ESCAPE_LENGTHS = (1.0, 0.1, 0.01, 0.001)

# What became of a step; `StepResult.outcome` is an index into these.
OUTCOMES = (
    "accepted",
    "no decrease",
    "loss not finite",
    "gradient not finite",
    "product not finite",
    "candidate not finite",
)
_ACCEPTED, _NO_DECREASE, _LOSS, _GRADIENT, _PRODUCT, _CANDIDATE = range(len(OUTCOMES))


class Problem(NamedTuple):
    """The function to lower, frozen for one step, on flat vectors of shape (n,).

    Attributes:
        loss: Displacement from the current point -> scalar loss. (No point: as a vector it would be
            held beside the variables during the whole step.)
        gradient: Displacement from it -> gradient of the loss, shape (n,).
        span: Makes the subspace, from the Hessian at the current point (perhaps that of a part of
            the batch).
        agree: See `subspaces.Agree`.
        project: Displacement -> the one that is carried out in its place, to which `loss` is that
            of the first: the same, where nothing constrains the point.
    """

    loss: Callable[[tf.Tensor], tf.Tensor]
    gradient: Callable[[tf.Tensor], tf.Tensor]
    span: subspaces.Span
    agree: subspaces.Agree = lambda value: value
    project: Callable[[tf.Tensor], tf.Tensor] = lambda displacement: displacement


class Settings(NamedTuple):
    """Hyper-parameters that are fixed when the step is traced.

    Attributes:
        damping: The damping policy.
        inner_steps: Steps in one subspace.
        max_step_norm: Largest Euclidean norm of a step, or None.
        direction: What the method makes of the eigenvalues, as in `damping.SubspaceLoss`.
        leave_saddles: Whether a step that gets nowhere goes along negative curvature instead.
    """

    damping: damping_lib.Damping
    inner_steps: int = 1
    max_step_norm: float | None = None
    direction: directions.Direction = directions.saddle_free_direction
    leave_saddles: bool = True


class StepResult(NamedTuple):
    """What one step did.

    Attributes:
        step: Shape (n,), what to add to the parameters; zero where the step was rejected.
        outcome: Scalar int32, index into `OUTCOMES`.
        loss: Scalar loss of the batch after the step.
        predicted_reduction: Scalar, promised by the quadratic model: of all accepted inner steps
            together, or of the trial that was rejected.
        damping: Scalar, of the last accepted inner step, or the last one tried.
        next_damping: Scalar, state for the next step.
        ritz_values: Shape (k,), ascending; NaN where loss, gradient or a product was not finite,
            and behind those of the directions that were made.
        shift: Scalar, the preconditioner's; zero without one.
        norm: Scalar, of the step in the inner product in which the basis is orthonormal.
        too_long: Scalar boolean, whether a first trial with the damping of the step before did not
            lower the loss.
    """

    step: tf.Tensor
    outcome: tf.Tensor
    loss: tf.Tensor
    predicted_reduction: tf.Tensor
    damping: tf.Tensor
    next_damping: tf.Tensor
    ritz_values: tf.Tensor
    shift: tf.Tensor
    norm: tf.Tensor
    too_long: tf.Tensor

    @property
    def accepted(self) -> tf.Tensor:
        """Whether the step is taken."""
        return tf.equal(self.outcome, _ACCEPTED)

    @property
    def finite(self) -> tf.Tensor:
        """Whether all was finite: the step was accepted, or did not lower the loss."""
        return self.outcome <= _NO_DECREASE


def newton_step(
    problem: Problem,
    settings: Settings,
    loss: tf.Tensor,
    learning_rate: tf.Tensor,
    start: subspaces.Start,
) -> StepResult:
    """Computes one step from the current point.

    Args:
        problem: The function to lower.
        settings: Static hyper-parameters.
        loss: Scalar loss at the point.
        learning_rate: Scalar factor on every direction.
        start: Gradient, previous step, damping and seed.
    """
    gradient, damping = start.gradient, start.damping
    finite_loss = tf.math.is_finite(loss)
    finite_gradient = tf.reduce_all(tf.math.is_finite(gradient))
    gradient = tf.where(finite_loss & finite_gradient, gradient, 0)
    subspace = problem.span(start._replace(gradient=gradient))
    ritz, reduced, reduce, expand, shift, made = subspace
    restricted = damping_lib.SubspaceLoss(
        ritz_values=ritz.values,
        loss=lambda position: problem.loss(expand(position)),
        clip=_clip(expand, settings.max_step_norm),
        learning_rate=learning_rate,
        direction=settings.direction,
    )
    choice = _inner_steps(
        restricted,
        settings,
        lambda position: reduce(problem.gradient(expand(position))),
        loss,
        reduced,
        damping,
    )
    if settings.leave_saddles:
        choice = _leave_saddle(restricted, settings.damping, expand, loss, reduced, choice)
    step = problem.agree(problem.project(expand(choice.position)))
    # The loss may be finite where the step is not (a weight that the loss has saturated in).
    finite_step = tf.math.is_finite(choice.trial_loss) & tf.reduce_all(tf.math.is_finite(step))
    outcome = tf.where(choice.accepted, _ACCEPTED, _NO_DECREASE)
    # The first cause last: what comes after it is not finite either.
    outcome = tf.where(finite_step, outcome, _CANDIDATE)
    outcome = tf.where(ritz.finite, outcome, _PRODUCT)
    outcome = tf.where(finite_gradient, outcome, _GRADIENT)
    outcome = tf.where(finite_loss, outcome, _LOSS)
    accepted, usable = tf.equal(outcome, _ACCEPTED), finite_loss & finite_gradient & ritz.finite
    known = usable
    if made is not None:
        known &= tf.range(int(ritz.values.shape[0])) < made
    return StepResult(
        step=tf.where(accepted, step, 0),
        outcome=outcome,
        loss=tf.where(accepted, choice.loss, loss),
        predicted_reduction=choice.predicted_reduction,
        damping=choice.damping,
        # A batch that is not finite says nothing about the damping.
        next_damping=tf.where(usable, choice.next_damping, damping),
        ritz_values=tf.where(known, ritz.values, tf.constant(np.nan, loss.dtype)),
        shift=tf.zeros_like(loss) if shift is None else shift,
        norm=tf.norm(choice.position),
        too_long=usable & _raised(choice, damping, ritz.values),
    )


def _raised(choice: damping_lib.Choice, damping: tf.Tensor, ritz_values: tf.Tensor) -> tf.Tensor:
    # A damping that rounding hides beside the curvature is raised without a trial.
    epsilon = precision.epsilon(damping.dtype)
    visible = tf.maximum(damping, epsilon * tf.reduce_max(tf.abs(ritz_values)))
    return ~choice.accepted | ((damping > 0) & (choice.damping > 1.5 * visible))


def _clip(
    expand: Callable[[tf.Tensor], tf.Tensor], max_step_norm: float | None
) -> Callable[[tf.Tensor], tf.Tensor]:
    if max_step_norm is None:
        return lambda position: position

    def clip(position: tf.Tensor) -> tf.Tensor:
        # The norm of the step itself: without reorthogonalisation the basis is not quite
        # orthonormal and the position's own norm would be wrong.
        norm = tf.norm(expand(position))
        return position * tf.where(norm > max_step_norm, max_step_norm / norm, 1)

    return clip


def _inner_steps(
    restricted: damping_lib.SubspaceLoss,
    settings: Settings,
    gradient_fn: Callable[[tf.Tensor], tf.Tensor],
    loss: tf.Tensor,
    gradient: tf.Tensor,
    damping: tf.Tensor,
) -> damping_lib.Choice:
    """Runs the inner loop over j; stops at the first inner step that is not accepted."""
    origin = tf.zeros_like(gradient)
    if settings.inner_steps == 1:
        return settings.damping.choose(
            restricted, damping_lib.Start(origin, loss, gradient, damping)
        )

    def cond(
        index: tf.Tensor, gradient: tf.Tensor, any_accepted: tf.Tensor, _: object
    ) -> tf.Tensor:
        return index < settings.inner_steps

    def body(
        index: tf.Tensor,
        gradient: tf.Tensor,
        any_accepted: tf.Tensor,
        before: damping_lib.Choice,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, damping_lib.Choice]:
        start = damping_lib.Start(before.position, before.loss, gradient, before.next_damping)
        choice = settings.damping.choose(restricted, start)
        go_on = choice.accepted & (index + 1 < settings.inner_steps)
        gradient = tf.cond(go_on, lambda: gradient_fn(choice.position), lambda: gradient)
        index = tf.where(choice.accepted, index + 1, settings.inner_steps)
        # A later inner step that does not help tells of the end of this subspace, not of a damping
        # that was wrong: the next step starts from what the accepted ones found.
        only_later = any_accepted & ~choice.accepted
        next_damping = tf.where(only_later, before.next_damping, choice.next_damping)
        promised = tf.where(only_later, tf.zeros_like(loss), choice.predicted_reduction)
        choice = choice._replace(
            next_damping=next_damping,
            predicted_reduction=before.predicted_reduction + promised,
            damping=tf.where(only_later, before.damping, choice.damping),
            trial_loss=tf.where(only_later, before.trial_loss, choice.trial_loss),
        )
        return index, gradient, any_accepted | choice.accepted, choice

    nothing = damping_lib.Choice(
        position=origin,
        loss=loss,
        trial_loss=loss,
        predicted_reduction=tf.zeros_like(loss),
        accepted=tf.constant(False),
        damping=damping,
        next_damping=damping,
    )
    first = (tf.constant(0), gradient, tf.constant(False), nothing)
    _, _, any_accepted, choice = tf.while_loop(cond, body, first)
    return choice._replace(accepted=any_accepted)


def _leave_saddle(
    restricted: damping_lib.SubspaceLoss,
    policy: damping_lib.Damping,
    expand: Callable[[tf.Tensor], tf.Tensor],
    loss: tf.Tensor,
    gradient: tf.Tensor,
    choice: damping_lib.Choice,
) -> damping_lib.Choice:
    """Replaces a step that gets nowhere by one along the most negative Ritz vector."""
    epsilon = precision.epsilon(loss.dtype)
    nowhere = choice.predicted_reduction <= epsilon * tf.abs(loss)
    if policy.monotone:
        nowhere |= ~choice.accepted
    size = restricted.ritz_values.shape[0]
    lengths = tf.constant(
        [sign * length for length in _ESCAPE_LENGTHS for sign in (1, -1)], loss.dtype
    )

    # Ritz values ascend: the first coordinate is the most negative direction.
    axis = tf.one_hot(0, size, dtype=loss.dtype)

    def body(
        index: tf.Tensor, unit: tf.Tensor, best: damping_lib.Choice
    ) -> tuple[tf.Tensor, tf.Tensor, damping_lib.Choice]:
        position = restricted.clip(restricted.learning_rate * lengths[index] * unit)
        trial_loss = damping_lib.finite_or_infinity(restricted.loss(position))
        better = trial_loss < best.loss
        predicted = directions.predicted_reduction(restricted.ritz_values, gradient, position)
        return (
            index + 1,
            unit,
            best._replace(
                position=tf.where(better, position, best.position),
                loss=tf.where(better, trial_loss, best.loss),
                trial_loss=tf.where(better, trial_loss, best.trial_loss),
                predicted_reduction=tf.where(better, predicted, best.predicted_reduction),
                accepted=best.accepted | better,
            ),
        )

    def escape() -> damping_lib.Choice:
        # Of norm one as a vector of parameters: preconditioned rows are not.
        unit = tf.math.divide_no_nan(axis, tf.norm(expand(axis)))
        start = (tf.constant(0), unit, choice)
        limit = lengths.shape[0]
        return tf.while_loop(lambda index, *_: index < limit, body, start, parallel_iterations=1)[2]

    return tf.cond(nowhere & (restricted.ritz_values[0] < 0), escape, lambda: choice)
