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
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_sfn.backend import collectives, graphs
from keras_sfn.objective import micro_batches, parameter_space
from keras_sfn.objective import objective as objective_lib

LossOf = Callable[[Any], Callable[[], tuple[tf.Tensor, Any]]]

# Odd, so that all replicas have different seeds, and these lie far apart (2**32 over the golden
# ratio): the i-th generator or slice of one replica never has the seed of another replica's.
_SEEDS_A_REPLICA = 2654435769


def count_rows(rows: Any) -> tf.Tensor:
    """Returns the rows of each replica, shape (replicas,) integers, from each replica's own."""

    def place(own: tf.Tensor) -> tf.Tensor:
        return own * tf.one_hot(collectives.index(), collectives.number(), dtype=own.dtype)

    return collectives.total(collectives.run(place, rows))


def first_rows(data: Any, rows: tf.Tensor, wanted: int) -> tuple[Any, tf.Tensor]:
    """Returns each replica's part of the first `wanted` rows of the batch, and its length.

    Args:
        data: Structure of values with rows.
        rows: Shape (replicas,), how many rows each replica has.
        wanted: A number of rows of the whole batch.
    """
    before = tf.cumsum(rows, exclusive=True)
    taken = tf.clip_by_value(wanted - before, 0, rows)

    def take(own: Any) -> Any:
        return keras.tree.map_structure(
            lambda part: None if part is None else part[: taken[collectives.index()]], own
        )

    return collectives.run(take, data), taken


class Shares(NamedTuple):
    """A batch as the replicas hold it.

    Attributes:
        data: Structure of values, with the rows of each replica along their first axis.
        loss_of: Function of one replica's part of `data` that returns a loss function, which in
            turn returns `(loss, outputs)`. Losses are as Keras scales them: a mean is divided by
            the number of replicas.
        rows: Shape (replicas,), how many rows each replica has; None if that is not known, and the
            loss is the sum of the replicas' losses.
        slice_rows: Rows that a replica evaluates at a time, or None for all.
        is_sum: Whether losses are sums over rows instead of means.
        synchronized: Whether layers sum over the replicas by themselves, or may do so.
    """

    data: Any
    loss_of: LossOf
    rows: tf.Tensor | None = None
    slice_rows: int | None = None
    is_sum: bool = False
    synchronized: bool = False


class Replicas:
    """Like `objective.Objective`, for a batch on several replicas; made and used inside `once`.

    Args:
        shares: The batch.
        space: The variables that are the function's argument.

    Attributes:
        synchronized: Whether layers sum over the replicas by themselves.
    """

    def __init__(self, shares: Shares, space: parameter_space.ParameterSpace) -> None:
        self.space = space
        self.synchronized = shares.synchronized
        self._shares = shares
        self._rows: Any = shares.rows
        self._jit_compile = False
        self._parts: dict[int, objective_lib.Loss] = {}
        self._may_be_empty = self._padded = False
        self._outputs: Any = None
        self._updated: list[keras.Variable] = []
        self._example: objective_lib.Objective
        collectives.run(self._prepare, shares.data)
        self._first = self._parts[min(self._parts)]

    @property
    def seed_generators(self) -> list[keras.Variable]:
        """See `objective.Objective`."""
        return self._first.seed_generators

    def reseed(self, seed: tf.Tensor) -> None:
        """See `objective.Objective.reseed`; each replica draws from seeds of its own."""
        for index, part in self._parts.items():
            part.reseed(seed + tf.constant([index * _SEEDS_A_REPLICA, 0], seed.dtype))

    def example(self) -> objective_lib.Objective:
        """Returns an objective of one of this process's replicas."""
        return self._example

    def compile_parts(self, jit_compile: bool) -> None:
        """Lets XLA compile what a replica evaluates, where that is possible."""
        if jit_compile and not self.synchronized:
            # What is held constant would have to leave the compiled function of its replica.
            spec = tf.TensorSpec((self.space.size,), self.space.dtype)
            graph = graphs.trace(self._example.loss, spec)
            self._jit_compile = not graphs.calls_stop_gradient(graph)

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

    def _prepare(self, data: Any) -> None:
        """Makes the loss of one replica's rows, in that replica's code."""
        shares = self._shares
        first = next((part for part in keras.tree.flatten(data) if tf.is_tensor(part)), None)
        may_be_empty = False
        if self._rows is not None and first is not None:
            may_be_empty = first.shape[0] in (None, 0)
        padded = may_be_empty and not shares.is_sum and not shares.synchronized
        self._may_be_empty |= may_be_empty
        self._padded |= padded
        if padded:
            # Layers and losses may refuse zero rows, or give NaN. (A sum over none is right, and
            # synchronised statistics would count a row too many.)
            missing = tf.maximum(1 - self._rows[collectives.index()], 0)
            data = keras.tree.map_structure(lambda p: micro_batches.pad_rows(p, missing), data)

        def weighted(part: Any) -> Callable[[], tuple[tf.Tensor, Any]]:
            loss_fn = shares.loss_of(part)
            if self._rows is None or shares.is_sum:
                return loss_fn
            weight = self._fraction() * collectives.number()

            def loss_and_outputs() -> tuple[tf.Tensor, Any]:
                loss, outputs = loss_fn()
                return loss * tf.cast(weight, loss.dtype), outputs

            return loss_and_outputs

        part: objective_lib.Loss = objective_lib.Objective(weighted(data), self.space)
        if shares.slice_rows is not None:
            slices = micro_batches.Slices(data, shares.slice_rows, weighted)
            rows = slices.rows()
            if not isinstance(rows, int) or rows > shares.slice_rows:
                part = micro_batches.MicroBatches(slices, self.space)
        self._parts[collectives.index()] = part
        self._example = part.example()

    def _fraction(self) -> tf.Tensor:
        """This replica's part of all rows, as a float64 scalar."""
        rows = self._rows
        if rows is None:
            return tf.constant(1 / collectives.number(), tf.float64)
        total = tf.maximum(tf.reduce_sum(rows), 1)
        return tf.cast(rows[collectives.index()], tf.float64) / tf.cast(total, tf.float64)

    def _call(self, compute: Callable[[objective_lib.Loss], Any]) -> Any:
        """Calls `compute` with this replica's loss, in that replica's code."""
        part = self._parts[collectives.index()]
        if self._jit_compile:
            return tf.function(lambda: compute(part), autograph=False, jit_compile=True)()
        return compute(part)

    def _summed(self, compute: Callable[[objective_lib.Loss], tf.Tensor]) -> tf.Tensor:
        return collectives.total(collectives.run(lambda: self._masked(self._call(compute))))

    def _masked(self, value: tf.Tensor) -> tf.Tensor:
        """Returns zero, whatever no rows or padding gave, where this replica has no rows."""
        # A sum over no rows is zero by itself, but for this replica's part of the regularisation.
        return value if self._shares.is_sum else self._unless_empty(value, tf.zeros_like(value))

    def _share(self, variable: keras.Variable, value: tf.Tensor) -> tf.Tensor:
        """This replica's part of the new value of a variable, which is the sum of these."""
        if variable.aggregation == "sum":  # Each replica holds a part: metrics inside layers.
            return self._unless_empty(value, tf.cast(variable.value, value.dtype))
        part = value * tf.cast(self._fraction(), value.dtype)
        return self._unless_empty(part, tf.zeros_like(part))

    def _unless_empty(self, value: tf.Tensor, otherwise: tf.Tensor) -> tf.Tensor:
        if not self._may_be_empty:
            return value
        return tf.where(self._rows[collectives.index()] > 0, value, otherwise)

    def _trimmed(self, output: tf.Tensor) -> tf.Tensor:
        if not self._padded or output.shape.rank == 0:
            return output
        return output[: self._rows[collectives.index()]]


def _is_floating(variable: keras.Variable) -> bool:
    return bool(variable.value.dtype.is_floating)
