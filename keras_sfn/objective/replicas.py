"""The loss of a batch whose rows lie on several replicas of a `tf.distribute` strategy.

A step needs the Hessian of the global batch, so every product is summed over the replicas inside
the Lanczos loop. For losses that are means over rows, with b_r rows on replica r and B in all,

    f(x) = sum over replicas r of (b_r / B) f_r(x)

holds to rounding, regularisation included: the weights sum to one, and a replica without rows has
weight zero. Two things are a replica's own: a BatchNormalization that is not synchronised
normalises by the statistics of the replica's rows, and each replica has its own dropout mask.
Moving statistics move once a step, by the mean of what the replicas would have moved them by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_sfn.backend import collectives, devices
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import parameter_space


class Replicas:
    """Like `objective.Objective`, for a batch on several replicas; made and used inside `once`.

    Args:
        parts: The loss of each replica of this process, by the replica's index.
        space: The variables that are the function's argument.
        counts: As of `replica_batch.ReplicaBatch`.
        may_be_empty: Whether a replica may have no rows.
        padded: Whether such a replica has a row of zeros in their place.
        is_sum: As of `replica_batch.ReplicaBatch`.
        synchronized: As of `replica_batch.ReplicaBatch`.
        jit_compile: Whether XLA compiles what a replica evaluates.
        early: As of `devices.compiled`.

    Attributes:
        space: As the argument.
        synchronized: As the argument.
    """

    def __init__(
        self,
        parts: dict[int, objective_lib.Loss],
        space: parameter_space.ParameterSpace,
        counts: tf.Tensor | None,
        *,
        may_be_empty: bool,
        padded: bool,
        is_sum: bool,
        synchronized: bool,
        jit_compile: bool,
        early: tf.Tensor | None,
    ) -> None:
        self.space = space
        self.synchronized = synchronized
        self._parts = parts
        self._counts: Any = counts
        self._may_be_empty, self._padded = may_be_empty, padded
        self._is_sum = is_sum
        self._jit_compile, self._early = jit_compile, early
        self._outputs: Any = None
        self._updated: list[keras.Variable] = []

    def over_parts(
        self, compute: Callable[[objective_lib.Objective], tf.Tensor], shape: tuple[int, ...]
    ) -> tf.Tensor:
        """Returns the sum of what `compute` gives for each part of each replica's loss."""
        return self._summed(lambda part: part.over_parts(compute, shape))

    def loss(self, point: parameter_space.Point) -> tf.Tensor:
        """See `objective.Objective.loss`."""
        return self._summed(lambda part: part.loss(point))

    def gradient(self, point: parameter_space.Point) -> tf.Tensor:
        """See `objective.Objective.gradient`."""
        return self._summed(lambda part: part.gradient(point))

    def evaluation_and_gradient(
        self, point: parameter_space.Point, *, hold_constants: bool = False
    ) -> tuple[objective_lib.Evaluation, tf.Tensor]:
        """See `objective.Objective.evaluation_and_gradient`; outputs stay with their replica."""

        def compute(part: objective_lib.Loss) -> tuple[list[tf.Tensor], ...]:
            evaluation, gradient = part.evaluation_and_gradient(
                point, hold_constants=hold_constants
            )
            self._outputs = keras.tree.map_structure(lambda _: None, evaluation.outputs)
            self._updated = [variable for variable, _ in evaluation.updates]
            moved = [value for _, value in evaluation.updates]
            return [evaluation.loss, gradient], moved, keras.tree.flatten(evaluation.outputs)

        def local() -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
            sums, moved, outputs = self._call(compute)
            pairs = list(zip(self._updated, moved, strict=True))
            parts = [self._masked(value) for value in sums]
            parts += [self._share(v, value) for v, value in pairs if _is_floating(v)]
            flat = [tf.reshape(tf.cast(part, self.space.dtype), (-1,)) for part in parts]
            counters = [value for v, value in pairs if not _is_floating(v)]
            return tf.concat(flat, axis=0), counters, [self._trimmed(out) for out in outputs]

        joined, counters, outputs = collectives.run(local)
        floating = [v for v in self._updated if _is_floating(v)]
        sizes = [int(tf.TensorShape(v.shape).num_elements()) for v in floating]
        loss, gradient, *values = tf.split(collectives.total(joined), [1, self.space.size, *sizes])
        updates = [
            (v, tf.cast(tf.reshape(value, v.shape), v.value.dtype))
            for v, value in zip(floating, values, strict=True)
        ]
        # A counter or a seed moves alike on every replica.
        rest = (v for v in self._updated if not _is_floating(v))
        updates += [(v, collectives.local(value)) for v, value in zip(rest, counters, strict=True)]
        packed = keras.tree.pack_sequence_as(self._outputs, outputs)
        return objective_lib.Evaluation(tf.reshape(loss, ()), packed, updates), gradient

    def _call(self, compute: Callable[[objective_lib.Loss], Any]) -> Any:
        """Calls `compute` with this replica's loss, in that replica's code."""
        part = self._parts[collectives.index()]
        if self._jit_compile:
            return devices.compiled(lambda: compute(part), True, self._early)()
        return compute(part)

    def _summed(self, compute: Callable[[objective_lib.Loss], tf.Tensor]) -> tf.Tensor:
        return collectives.total(collectives.run(lambda: self._masked(self._call(compute))))

    def _masked(self, value: tf.Tensor) -> tf.Tensor:
        """Returns zero, whatever no rows or padding gave, where this replica has no rows."""
        # A sum over no rows is zero by itself, but for this replica's part of the regularisation.
        return value if self._is_sum else self._unless_empty(value, tf.zeros_like(value))

    def _share(self, variable: keras.Variable, value: tf.Tensor) -> tf.Tensor:
        """This replica's part of the new value of a variable, which is the sum of these."""
        if variable.aggregation == "sum":  # Each replica holds a part: metrics inside layers.
            return self._unless_empty(value, tf.cast(variable.value, value.dtype))
        part = value * tf.cast(fraction(self._counts, collectives.index()), value.dtype)
        return self._unless_empty(part, tf.zeros_like(part))

    def _unless_empty(self, value: tf.Tensor, otherwise: tf.Tensor) -> tf.Tensor:
        if not self._may_be_empty:
            return value
        return tf.where(self._counts[collectives.index()] > 0, value, otherwise)

    def _trimmed(self, output: tf.Tensor) -> tf.Tensor:
        if not self._padded or output.shape.rank == 0:
            return output
        return output[: self._counts[collectives.index()]]


def fraction(counts: tf.Tensor | None, replica: int) -> tf.Tensor:
    """Returns a replica's part of all rows, a float64 scalar.

    Args:
        counts: As of `Replicas`.
        replica: Its number.
    """
    if counts is None:
        return tf.constant(1 / collectives.number(), tf.float64)
    total = tf.maximum(tf.reduce_sum(counts), 1)
    return tf.cast(counts[replica], tf.float64) / tf.cast(total, tf.float64)


def _is_floating(variable: keras.Variable) -> bool:
    return bool(variable.value.dtype.is_floating)
