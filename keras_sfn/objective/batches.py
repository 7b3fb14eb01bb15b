"""A batch as a step asks for it: whole, some of its rows, or one of several parts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_sfn.backend import graphs
from keras_sfn.objective import (
    micro_batches,
    moving_statistics,
    parameter_space,
    row_parts,
    rows,
    traced,
)
from keras_sfn.objective import objective as objective_lib

# Between the seeds of two draws of the same numbers: more than there are generators, and no
# multiple of what is between two slices.
_SEEDS_A_DRAW = 100_003

# Why no part of a batch is taken where a loss function reads its rows by itself.
ROWS_UNKNOWN = "only `fit` knows the rows of a batch"

# Of the numbers of a batch, that tell it from others.
_SUMS = 3


def of_function(loss_fn: Callable[[], Any], space: parameter_space.ParameterSpace) -> Batch:
    """Returns the batch of a loss function that reads its rows by itself.

    Args:
        loss_fn: () -> the scalar loss, or `(loss, outputs)`.
        space: What is trained.
    """
    return Batch(
        None,
        lambda _: with_outputs(loss_fn),
        space,
        obstacle=ROWS_UNKNOWN,
    )


def with_outputs(loss_fn: Callable[[], Any]) -> objective_lib.LossFunction:
    """Returns a user's loss function as one that gives a loss and outputs.

    Args:
        loss_fn: () -> the scalar loss, or `(loss, outputs)`.

    Raises:
        TypeError: When called, if it is neither.
    """

    def loss_and_outputs() -> tuple[tf.Tensor, Any]:
        returned = loss_fn()
        if not isinstance(returned, (tuple, list)):
            return returned, None
        if len(returned) != 2:
            raise TypeError(
                "`loss_fn` must return a scalar loss, or the pair `(loss, outputs)` with what the "
                f"model gave. Received: a {type(returned).__name__} of {len(returned)}. Return one "
                "of the two forms."
            )
        return returned[0], returned[1]

    return loss_and_outputs


class Batch:
    """The loss of one batch, on one device.

    All losses that a batch gives draw the same random numbers: those of its seed.

    Args:
        data: Structure of tensors with the rows along the first axis; None where rows are not
            known.
        loss_of: Maps such a structure, or rows of it, to a loss function.
        space: What is trained.
        obstacle: Why no part of the rows may be taken for all, or None where it may.
        slice_rows: Rows that are evaluated at a time; None for all.

    Attributes:
        space: As the argument.
        obstacle: As the argument.
        synchronized: Whether layers sum over replicas: there are none.
        data: As the argument.
    """

    synchronized = False

    def __init__(
        self,
        data: Any,
        loss_of: objective_lib.LossOf,
        space: parameter_space.ParameterSpace,
        *,
        obstacle: str | None = None,
        slice_rows: int | None = None,
    ) -> None:
        self.space = space
        self.obstacle = obstacle
        self.data = data
        self._loss_of = loss_of
        self._slice_rows = slice_rows
        self._seed: tf.Tensor | None = None
        self._pace: moving_statistics.Pace | None = None
        self._draws: list[Any] = []

    @functools.cached_property
    def example(self) -> objective_lib.Objective:
        """The loss of the rows that are evaluated at a time: it shows what all consist of."""
        return objective_lib.Objective(
            self._loss_of(self._example_data), self.space, draws=self._draws
        )

    @functools.cached_property
    def traced(self) -> traced.Traced:
        """What one trace of the example shows."""
        known = None if self.obstacle is not None else self._example_data
        return traced.trace(self.example, known)

    def reseed(self, seed: tf.Tensor) -> None:
        """Sets from what the losses that are made from now on draw.

        Args:
            seed: Shape (2,) integers, see `objective.Objective`.
        """
        self._seed = seed

    def follow(self, steps: tf.Tensor, of_rows: Any = None) -> None:
        """Sets how fast moving statistics follow this batch, for losses made from now on.

        Args:
            steps: Scalar integer, how many were taken before.
            of_rows: Scalar, rows of the step where this batch is one replica's; None for its own.
        """
        # A loss function of one replica is data here, and knows its rows by itself.
        if of_rows is None and self.data is not None and not callable(self.data):
            of_rows = self._rows()
        # Read here: the train step of a user is run to its end after the step was counted.
        self._pace = moving_statistics.Pace(of_rows, tf.identity(steps))

    def whole(self, place: rows.Place | None = None) -> objective_lib.Loss:
        """Returns the loss of all rows.

        Args:
            place: Where they lie in the batch of all replicas; None where they are all of it.
        """
        return self._loss(self.data, place=place)

    def spaced(self, wanted: int) -> objective_lib.Loss:
        """Returns the loss of so many rows, evenly spaced over the batch.

        Args:
            wanted: How many, at most all.
        """
        known = self._rows()
        taken = rows.of_curvature(wanted, known)
        return self._loss(rows.spaced(self.data, taken, known))

    def alike(self, loss_fn: objective_lib.LossFunction) -> objective_lib.Objective:
        """Returns another loss of the same variables, which draws the same random numbers.

        Args:
            loss_fn: The loss.
        """
        return objective_lib.Objective(
            loss_fn, self.space, draws=self._draws, seed=self._seed, pace=self._pace
        )

    def part(self, index: tf.Tensor, count: int) -> objective_lib.Loss:
        """Returns the loss of the i-th of `count` parts, which together are all rows.

        Args:
            index: Scalar integer, i.
            count: Of the parts, at least 2.
        """
        known, predictions = self._rows(), self.traced.predictions_a_row
        start, size = rows.of_part(index, count, known, predictions)
        return self._loss(rows.take(self.data, start, size))

    def spread(self, share: tf.Tensor) -> row_parts.RowParts:
        """Returns the mean loss of one in so many rows, taken from all of the batch, or more rows.

        Args:
            share: Scalar integer: one in so many.
        """
        predictions = self.traced.predictions_a_row
        # Of the most parts there are, so many would be taken; of fewer parts a part is more.
        taken = -(-rows.number_of_parts(self._rows(), predictions) // share)

        def part(index: tf.Tensor) -> objective_lib.Loss:
            # Counted where the rows are taken: XLA needs to know their number there.
            known = self._rows()
            count = rows.number_of_parts(known, predictions)
            return self._loss(rows.every(self.data, index, count, known))

        return row_parts.RowParts(part, taken, self.space)

    def has_halves(self) -> tf.Tensor:
        """Returns whether there are two rows or more, a scalar boolean."""
        return tf.greater_equal(self._rows(), 2)

    def half(self, index: tf.Tensor) -> objective_lib.Loss:
        """Returns the loss of one half of the rows, without the last one where they are odd.

        Args:
            index: Scalar integer, 0 or 1. The halves draw other random numbers.
        """
        known = self._rows()
        half = rows.take(self.data, index * (known // 2), known // 2)
        return self._loss(half, seed_of_draw(self._seed, index))

    def redrawn(self, index: tf.Tensor) -> objective_lib.Loss:
        """Returns the loss of all rows with other random numbers.

        Args:
            index: Scalar integer; each has its own.
        """
        return self._loss(self.data, seed_of_draw(self._seed, index))

    def fingerprint(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns sums over all numbers of the batch: see `fingerprint`."""
        return fingerprint(self.data)

    def arithmetic(self, of_rows: Any = None) -> Any:
        """Returns how many floating-point operations a gradient takes, a float or scalar tensor.

        Args:
            of_rows: Of how many rows; None for its own.
        """
        known, for_row = self.traced.arithmetic
        if self.obstacle is None and self.traced.has_loops:
            # What loops do is not seen: all parameters, at each position of a sequence.
            parts = [part for part in keras.tree.flatten(self.data) if part is not None]
            shapes = [tf.TensorShape(part.shape) for part in parts]
            positions = [shape[1] or 1 for shape in shapes if shape.rank and shape.rank > 1]
            for_row += 6 * self.space.size * max([1, *positions])
        if for_row == 0:
            return known
        count = of_rows
        if count is None:
            count = 1 if self.data is None else self._rows()
        return known + for_row * tf.cast(count, tf.float32)

    def try_part(self) -> None:
        """Traces the loss of a part and of half of the rows; `obstacle` says why one fails."""
        spec = tf.TensorSpec((self.space.size,), self.space.dtype)
        parts = self.spread(tf.constant(rows.MOST_PARTS))

        known = rows.static_count(self.data)

        def loss(point: tf.Tensor) -> tf.Tensor:
            total = parts.over_parts(lambda part: part.loss(point), ())
            # Of few rows a part is all of them, and a half is not.
            return total if known == 1 else total + self.half(tf.constant(0)).loss(point)

        try:
            graphs.trace(loss, spec)
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            reason = str(error).strip().splitlines()[0]
            self.obstacle = f"the loss of a part of the rows cannot be evaluated ({reason})"

    @functools.cached_property
    def _example_data(self) -> Any:
        if self._slice_rows is None or not self._in_slices(self.data):
            return self.data
        return rows.take(rows.padded(self.data, self._slice_rows), 0, self._slice_rows)

    def _rows(self) -> Any:
        known = rows.static_count(self.data)
        return rows.count(self.data) if known is None else known

    def _in_slices(self, data: Any) -> bool:
        if self._slice_rows is None:
            return False
        known = rows.static_count(data)
        return known is None or known > self._slice_rows

    def _loss(
        self, data: Any, seed: tf.Tensor | None = None, place: rows.Place | None = None
    ) -> objective_lib.Loss:
        seed = self._seed if seed is None else seed
        if not self._in_slices(data):
            return objective_lib.Objective(
                self._loss_of(data),
                self.space,
                draws=self._draws,
                seed=seed,
                pace=self._pace,
                place=place,
            )
        assert self._slice_rows is not None
        return micro_batches.MicroBatches(
            data,
            self._slice_rows,
            self._loss_of,
            self.space,
            self.traced,
            draws=self._draws,
            seed=seed,
            pace=self._pace,
            place=place,
        )


def seed_of_draw(seed: tf.Tensor | None, index: tf.Tensor) -> tf.Tensor | None:
    """Returns the seed of another draw of the same random numbers.

    Args:
        seed: Of the step, or None.
        index: Scalar integer; each has its own.
    """
    if seed is None:
        return None
    return seed + tf.cast(tf.stack([_SEEDS_A_DRAW * index, 0]), seed.dtype)


def fingerprint(data: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns sums over all numbers of a batch, in any order, and sums of absolute values.

    Args:
        data: Structure of tensors. What holds no numbers does not count.

    Returns:
        Two vectors of shape (3,), float32: sums of the numbers, their squares, and their cosines.
    """
    total, size = tf.zeros((_SUMS,), tf.float32), tf.zeros((_SUMS,), tf.float32)
    for part in keras.tree.flatten(data):
        if part is None:
            continue
        part = tf.convert_to_tensor(part)
        if not (part.dtype.is_floating or part.dtype.is_integer or part.dtype.is_bool):
            continue
        numbers = tf.cast(part, tf.float32)
        features = (numbers, numbers**2, tf.cos(3 * numbers))
        total += tf.stack([tf.reduce_sum(feature) for feature in features])
        size += tf.stack([tf.reduce_sum(tf.abs(feature)) for feature in features])
    return total, size
