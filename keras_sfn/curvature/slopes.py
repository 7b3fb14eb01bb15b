"""Whether the gradient of a loss is its derivative, told by differences of the loss.

It is not where a user has put another in its place: rounding that lets gradients through as if it
did nothing (straight-through estimates), reversed gradients (adversarial training). An optimizer
that judges steps by the loss then follows one function and judges by another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_sfn.backend import graphs
from keras_sfn.curvature import differences
from keras_sfn.curvature import report as report_lib
from keras_sfn.krylov import precision, vectors
from keras_sfn.objective import batches
from keras_sfn.objective import objective as objective_lib

# Differences over so much of the length of the parameters. Those count that agree best with the
# next shorter: long ones bend, and the shortest may be lost in rounding.
_STEPS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)

# Beyond this a difference is no rounding, no kink and no bend.
_FAR = 0.1

# Where gradient and difference may be apart at kinks, which the loss's differences jump over.
_AT_KINKS = 0.05

# They are constant nearly everywhere, so that a gradient through them is an invention.
_STEPPED = frozenset({"Ceil", "Floor", "Rint", "Round", "Sign"})


class SlopeRecord:
    """Holds what the first step has found, outside the optimizer's own variables.

    Attributes:
        variable: What holds it: the change of the loss over what its gradient says.
    """

    def __init__(self) -> None:
        self.variable = keras.Variable(1.0, trainable=False, dtype="float32", name="slope_ratio")

    def measure(
        self,
        loss: objective_lib.Loss,
        compiled: Callable[[Callable[..., Any]], Callable[..., Any]],
        wanted: tf.Tensor,
    ) -> None:
        """Compares gradient and loss along the gradient.

        Args:
            loss: Of the step.
            compiled: Compiles as the step is: XLA draws other masks.
            wanted: Scalar boolean, whether it is to be done in this step.
        """

        def ratio() -> tf.Tensor:
            return tf.cast(_best_ratio(loss), tf.float32)

        if not tf.executing_eagerly():
            ratio = compiled(ratio)
        self.variable.assign(tf.cond(wanted, ratio, lambda: tf.identity(self.variable.value)))

    def message(self) -> str | None:
        """Returns what there is to warn of, or None; not in a graph."""
        ratio = float(self.variable.numpy())
        if abs(ratio - 1) <= _FAR:
            return None
        return (
            "The gradient of the loss is not its derivative: along the gradient the loss changes "
            f"{ratio:.2g} times as fast as that says. Steps follow the gradient, and are taken "
            "only if they lower the loss: a reversed one (adversarial training) is not followed "
            "up, and where gradients pass through rounding many steps are rejected. Make losses "
            "that are raised by one part and lowered by another two losses with an optimizer each, "
            "or train by a first-order optimizer. `keras_sfn.check_curvature` shows more."
        )


def _best_ratio(loss: objective_lib.Loss) -> tf.Tensor:
    """Returns the change of a loss along its gradient over what the gradient says: 1 if right."""
    space = loss.space
    values = space.values()
    evaluation, gradient = loss.evaluation_and_gradient(values, hold_constants=True)
    length = tf.maximum(vectors.norm(space.flatten(values)), 1)
    norm = vectors.norm(gradient)
    along = tf.math.divide_no_nan(gradient, norm) * length
    rounding = precision.epsilon(space.dtype) * tf.abs(evaluation.loss)
    steps = tf.constant([side for step in _STEPS for side in (step, -step)], space.dtype)
    # One loss in a loop: ten of them side by side took XLA five seconds.
    losses = tf.map_fn(
        lambda step: loss.loss(space.displaced(values, step * along)),
        steps,
        parallel_iterations=1,
    )
    changes = tf.unstack(losses[::2] - losses[1::2], len(_STEPS))
    best, unknown = tf.ones_like(norm), tf.constant(np.inf, norm.dtype)
    before, least = unknown, unknown
    for step, change in zip(_STEPS, changes, strict=True):
        promised = 2 * step * norm * length
        ratio = tf.math.divide_no_nan(change, promised)
        usable = tf.math.is_finite(ratio) & (promised > 1e3 * rounding)
        ratio = tf.where(usable, ratio, unknown)
        # Not a number where neither is known: smaller than nothing.
        disagreement = tf.abs(ratio - before)
        closer = disagreement < least
        best, least = tf.where(closer, ratio, best), tf.where(closer, disagreement, least)
        before = ratio
    return best


def check(
    batch: batches.Batch,
    directions: Sequence[np.ndarray],
    first_step: float,
    tolerance: float,
    *,
    has_kinks: bool,
) -> report_lib.GradientCheck:
    """Compares the gradient of a loss with differences of the loss along directions.

    What is under `stop_gradient` is held constant, as in a step; whether the loss changes otherwise
    where it is not, is told besides.

    Args:
        batch: Whose loss it is.
        directions: Each of shape (n,).
        first_step: Shortest step along them.
        tolerance: Largest relative error that counts as right.
        has_kinks: Whether the loss has any.
    """
    tolerance = max(tolerance, _AT_KINKS) if has_kinks else tolerance
    slopes = _slopes(batch.whole(), hold=True)
    error, verdict = _compared(slopes, directions, first_step, tolerance)
    held = False
    if batch.traced.stops_gradient and verdict == report_lib.RIGHT:
        slopes = _slopes(batch.whole(), hold=False)
        free_error, free = _compared(slopes, directions, first_step, tolerance)
        held = free == report_lib.WRONG
        if held and batch.traced.ops & _STEPPED:
            error, verdict = free_error, free
    return report_lib.GradientCheck(error, verdict, held)


# (direction, signed step) -> the slope that the gradient says, and the loss there.
_Slopes = Callable[[np.ndarray, float], tuple[float, float]]


def _slopes(objective: objective_lib.Loss, *, hold: bool) -> _Slopes:
    space = objective.space

    def both(along: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values = space.values()
        _, gradient = objective.evaluation_and_gradient(values, hold_constants=hold)
        return vectors.dot(gradient, along), objective.loss(space.displaced(values, step * along))

    dtype = space.dtype
    traced = graphs.concrete(both, tf.TensorSpec((space.size,), dtype), tf.TensorSpec((), dtype))

    def slopes(along: np.ndarray, step: float) -> tuple[float, float]:
        slope, loss = traced(tf.constant(along, dtype), tf.constant(step, dtype))
        return float(slope), float(loss)

    return slopes


def _compared(
    slopes: _Slopes, directions: Sequence[np.ndarray], first_step: float, tolerance: float
) -> tuple[float, str]:
    said, found, errors = [], [], []
    for along in directions:
        said.append(slopes(along, 0.0)[0])

        def on_line(step: float, along: np.ndarray = along) -> np.ndarray:
            return np.array([slopes(along, step)[1]])

        difference, error = differences.derivative(on_line, first_step, [slice(0, 1)])
        found.append(difference[0])
        errors.append(error[0])
    distance = float(np.linalg.norm(np.subtract(said, found)))
    size = max(float(np.linalg.norm(said)), float(np.linalg.norm(found)), np.finfo("float64").tiny)
    if distance <= tolerance * size:
        return distance / size, report_lib.RIGHT
    if distance <= report_lib.SAFETY * float(np.linalg.norm(errors)):
        return distance / size, report_lib.UNRESOLVED
    return distance / size, report_lib.WRONG
