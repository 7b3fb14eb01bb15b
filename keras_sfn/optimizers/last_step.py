"""Figures about one step: a vector that the compiled step writes, and its reading on the host.

One vector, so that a step pays for one assignment and a reader for one copy.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_sfn.newton import damping as damping_lib
from keras_sfn.newton import effort as effort_lib
from keras_sfn.newton import step as step_lib
from keras_sfn.optimizers import arguments


class LastStep(NamedTuple):
    """What the last step of an optimizer did.

    Attributes:
        outcome: `"accepted"`, `"no decrease"` (no candidate lowered the loss of the batch), or what
            was not finite: `"loss not finite"`, `"gradient not finite"`, `"product not finite"`,
            `"candidate not finite"`. All but the first are rejected steps.
        loss: Loss of the batch before the step.
        new_loss: Loss of the batch after it; `loss` where the step was rejected.
        damping: Added to each absolute Ritz value, in units of curvature (loss per parameter
            squared).
        ritz_values: Shape (k,), ascending: estimates of eigenvalues of the Hessian, in the same
            units; empty where loss, gradient or a product was not finite. With preconditioned
            directions they and `damping` are relative to the preconditioner, without a unit.
        gradient_norm: Euclidean norm, in loss per parameter.
        step_norm: Euclidean norm of the step, without weight decay; 0 where it was rejected.
        predicted_reduction: By how much the quadratic model said that the step lowers the loss.
        reduction_ratio: (loss - new_loss) / predicted_reduction: 1 where the quadratic model is
            right, 0 where the step was rejected.
        rejected_steps: How many steps were rejected so far.
        kind: Where the step looked for its subspace: `"preconditioned directions"`,
            `"preconditioned directions through loops"`, `"preconditioned directions on all rows"`,
            `"Lanczos vectors"`, `"the whole Hessian"`, or `"averaged gradients"` (see the argument
            `stochastic`): there `new_loss` is NaN, and the reduction ratio and the one Ritz value
            are those of the last look along a direction.
        directions: How many directions its subspace had, with the previous step; 0 where the step
            was not finite.
        curvature_share: Of the rows of the batch, the share whose Hessian was used where the step
            chose that by itself; NaN elsewhere.
    """

    outcome: str
    loss: float
    new_loss: float
    damping: float
    ritz_values: np.ndarray
    gradient_norm: float
    step_norm: float
    predicted_reduction: float
    reduction_ratio: float
    rejected_steps: int
    kind: str
    directions: int
    curvature_share: float

    @property
    def preconditioned(self) -> float:
        """1 where directions were preconditioned, else 0: a figure for logs."""
        return float(self.kind.startswith("preconditioned"))

    @property
    def ritz_min(self) -> float:
        """The least Ritz value: negative near a saddle. NaN where there is none."""
        return float(self.ritz_values[0]) if len(self.ritz_values) else float("nan")

    @property
    def ritz_max(self) -> float:
        """The largest Ritz value. NaN where there is none."""
        return float(self.ritz_values[-1]) if len(self.ritz_values) else float("nan")


class LastStepRecord:
    """Holds the figures, outside the optimizer's own variables.

    No later step depends on them, so a checkpoint has none of them.

    Args:
        dimension: Largest dimension of a step's subspace.
        dtype: Floating dtype of the figures.

    Attributes:
        dimension: As the argument.
        variable: What holds them.
    """

    def __init__(self, dimension: int, dtype: str) -> None:
        self.dimension = dimension
        self.variable = keras.Variable(
            keras.initializers.Constant(_NOTHING),
            shape=(_SCALARS + dimension,),
            dtype=dtype,
            trainable=False,
            aggregation="only_first_replica",
            name="last_step",
        )

    def write(self, vector: tf.Tensor) -> None:
        """Assigns what `pack` returned."""
        self.variable.assign(vector)

    def was_averaged(self) -> bool:
        """Returns whether there was a step, and one of averaged gradients; not in a graph."""
        vector = self.variable.numpy()
        return bool(vector[0] != _NOTHING and vector[_SCALARS - 1])

    def read(self, rejected_steps: keras.Variable, kind: arguments.StepKind) -> LastStep:
        """Returns the figures of the last step.

        Args:
            rejected_steps: How many were rejected.
            kind: Of the steps.

        Raises:
            ValueError: No step was taken yet, or this is the trace of a `tf.function`.
        """
        if tf.inside_function():
            raise ValueError(
                "`last_step` holds numbers of a step that has been taken. It was read inside a "
                "`tf.function`. Read it after the function has returned."
            )
        vector = self.variable.numpy()
        if vector[0] == _NOTHING:
            raise ValueError(NO_STEP)
        return unpack(vector, int(rejected_steps.numpy()), kind)


NO_STEP = (
    "`last_step` tells of steps taken by this optimizer object in this process, and there was none "
    "yet. Train a step first."
)

_SCALARS = 10
_NOTHING = -1


def pack(
    result: step_lib.StepResult,
    loss: tf.Tensor,
    gradient: tf.Tensor,
    dimension: int,
    effort: effort_lib.Effort | None = None,
    ratio: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns the figures as one vector, in the dtype of `loss`.

    Args:
        result: The step.
        loss: Scalar, before it.
        gradient: Shape (n,).
        dimension: For how many Ritz values there is room.
        effort: What the step spent, where it chose that.
        ratio: The reduction ratio of a step of averaged gradients, which has no loss after it.
    """
    share = tf.constant(np.nan, loss.dtype)
    if effort is not None:
        share = 1 / tf.cast(effort.share, loss.dtype)
    predicted = result.predicted_reduction
    averaged = ratio is not None
    if ratio is None:
        ratio = damping_lib.reduction_ratio(loss - result.loss, predicted)
    scalars = [
        tf.cast(result.outcome, loss.dtype),
        loss,
        result.loss,
        result.damping,
        tf.norm(gradient),
        tf.norm(result.step),
        predicted,
        tf.where(result.accepted, ratio, 0),
        share,
        tf.cast(averaged, loss.dtype),
    ]
    # A step on fewer variables than the optimizer was built for may have a smaller subspace.
    missing = dimension - result.ritz_values.shape[0]
    padding = tf.fill((missing,), tf.constant(np.nan, loss.dtype))
    return tf.concat([tf.stack(scalars), result.ritz_values, padding], axis=0)


def unpack(vector: np.ndarray, rejected_steps: int, kind: arguments.StepKind) -> LastStep:
    """Returns the figures that `pack` wrote."""
    outcome, *scalars = vector[:_SCALARS].tolist()
    loss, new_loss, damping, gradient_norm, step_norm, predicted, ratio, share, averaged = scalars
    if averaged:
        kind = arguments.StepKind.AVERAGED
    ritz_values = vector[_SCALARS:]
    ritz_values = ritz_values[~np.isnan(ritz_values)]
    return LastStep(
        outcome=step_lib.OUTCOMES[int(outcome)],
        loss=loss,
        new_loss=new_loss,
        damping=damping,
        ritz_values=ritz_values,
        gradient_norm=gradient_norm,
        step_norm=step_norm,
        predicted_reduction=predicted,
        reduction_ratio=ratio,
        rejected_steps=rejected_steps,
        kind=kind.value,
        directions=len(ritz_values),
        curvature_share=share,
    )
