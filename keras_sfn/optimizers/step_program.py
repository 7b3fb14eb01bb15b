"""What a step computes from a loss and the state of an optimizer, and how it is compiled.

Nothing here changes a variable but `carry_out`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_sfn.backend import collectives, devices, graphs
from keras_sfn.curvature import products
from keras_sfn.curvature import survey as survey_lib
from keras_sfn.newton import effort as effort_lib
from keras_sfn.newton import step as step_lib
from keras_sfn.newton import subspaces
from keras_sfn.objective import constraints, parameter_space, replicas
from keras_sfn.optimizers import arguments as arguments_lib
from keras_sfn.optimizers import last_step
from keras_sfn.preconditioner import preconditioned_space


class StepState(NamedTuple):
    """What a step reads from the optimizer's variables.

    Attributes:
        previous_step: Shape (n,), or None where it does not join the subspace.
        damping: Scalar state of the damping policy.
        seed: Shape (2,) integers for random directions.
        preconditioner: P and its shift, or None.
        learning_rate: Scalar factor on every direction.
        effort: How many preconditioned directions are made, from how many rows; None without P.
    """

    previous_step: tf.Tensor | None
    damping: tf.Tensor
    seed: tf.Tensor
    preconditioner: preconditioned_space.ShiftedPreconditioner | None
    learning_rate: tf.Tensor
    effort: effort_lib.Effort | None


class Computed(NamedTuple):
    """What a step has computed.

    Attributes:
        loss: Scalar, before the step.
        outputs: Of the pass at that point.
        updates: One value for each variable that this pass would have assigned to.
        result: The step.
        figures: Those of `last_step`, a vector.
    """

    loss: tf.Tensor
    outputs: Any
    updates: list[tf.Tensor]
    result: step_lib.StepResult
    figures: tf.Tensor


def run(
    loss: survey_lib.FrozenLoss,
    arguments: arguments_lib.Arguments,
    read: Callable[[], StepState],
    dimension: int,
) -> tuple[Computed, Sequence[keras.Variable]]:
    """Computes a step, in a compiled function where the survey of the loss says so.

    Args:
        loss: Of the batch.
        arguments: The optimizer's.
        read: Reads the state; called in the function that is compiled.
        dimension: For how many Ritz values the figures have room.

    Returns:
        What was computed, and the variables to which its updates belong.
    """
    updated: list[keras.Variable] = []

    def compute(jit_products: bool) -> Computed:
        space = loss.whole.space
        values = space.values()
        evaluation, gradient = loss.whole.evaluation_and_gradient(values, hold_constants=True)
        updated[:] = [variable for variable, _ in evaluation.updates]
        allowed = constraints.Constraints(space, values, gradient)
        gradient = allowed.gradient
        state = read()
        result = step_lib.newton_step(
            _problem(loss, arguments, state, values, jit_products, allowed),
            arguments.settings,
            evaluation.loss,
            state.learning_rate,
            subspaces.Start(gradient, state.previous_step, state.damping, state.seed),
        )
        given = isinstance(arguments.values["curvature_batch_size"], int)
        spent = None if given else state.effort
        figures = last_step.pack(result, evaluation.loss, gradient, dimension, spent)
        moved = [value for _, value in evaluation.updates]
        return Computed(evaluation.loss, evaluation.outputs, moved, result, figures)

    whole = arguments.kind is arguments_lib.StepKind.WHOLE
    computed: Computed = compiled(compute, loss, whole)()
    return computed, updated


def compiled(
    compute: Callable[[bool], Any], loss: survey_lib.FrozenLoss, whole: bool
) -> Callable[[], Any]:
    """Returns the computation of a step as it is to be called.

    Args:
        compute: The computation. Its argument: whether XLA is to compile products by themselves.
        loss: What it evaluates.
        whole: Whether it takes the eigenvalues of the whole Hessian. XLA would take minutes for
            these: there, only products are its.
    """
    if tf.executing_eagerly():
        return functools.partial(compute, False)
    jit = loss.survey.jit_compile
    # Not sooner: a renewal of the preconditioner, traced before, is faster with joined products.
    loss.whole.space.in_place = jit
    if whole and not isinstance(loss.whole, replicas.Replicas):
        return devices.compiled(functools.partial(compute, jit), False)
    return loss.compiled(functools.partial(compute, False))


def carry_out(
    variables: Sequence[keras.Variable], values: Sequence[tf.Tensor], finite: tf.Tensor
) -> None:
    """Assigns what the pass at the old parameters would have assigned.

    Args:
        variables: What to assign to.
        values: One a variable.
        finite: Whether all of the step was finite.
    """
    for variable, value in zip(variables, values, strict=True):
        if value.dtype.is_floating:
            # Statistics that are not finite would spoil the model for good. They can overflow (a
            # variance) where the loss does not.
            keep = finite & tf.reduce_all(tf.math.is_finite(value))
            value = tf.where(keep, value, tf.cast(variable.value, value.dtype))
        variable.assign(value)


def _problem(
    loss: survey_lib.FrozenLoss,
    arguments: arguments_lib.Arguments,
    state: StepState,
    values: parameter_space.Point,
    jit_products: bool,
    allowed: constraints.Constraints,
) -> step_lib.Problem:
    """Returns the function to lower and the subspace in which that is done."""
    space = loss.whole.space
    product = products.hessian_vector_product(loss.curvature, values, loss.survey.hvp_mode)
    matvec = allowed.masked(product)
    agree = collectives.agree
    chosen = arguments.in_use
    span: subspaces.Span
    if arguments.kind is arguments_lib.StepKind.WHOLE:
        hessian = products.dense(matvec, space.size, space.dtype, jit_products)
        span = subspaces.whole_space(hessian, agree)
    elif state.preconditioner is not None and state.effort is not None:
        span = preconditioned_space.preconditioned_space(
            matvec,
            arguments.ladder(space.size).most_directions,
            state.effort.directions,
            state.preconditioner,
            agree,
        )
    else:
        span = subspaces.krylov_space(
            matvec, chosen["krylov_dimension"], chosen["reorthogonalize"], agree
        )

    def moved(displacement: tf.Tensor) -> tf.Tensor:
        return loss.whole.loss(allowed.moved(displacement))

    if not isinstance(loss.whole, replicas.Replicas):
        # The search for the damping and the way out of a saddle call it at three places.
        moved = graphs.once(moved, tf.TensorSpec((space.size,), space.dtype))
    return step_lib.Problem(
        loss=moved,
        gradient=lambda displacement: allowed.slope(loss.whole.gradient, displacement),
        span=span,
        agree=agree,
        project=allowed.step,
    )
