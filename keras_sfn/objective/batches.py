"""A batch as a step asks for it: whole, its first rows, or one of several parts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_sfn.objective import micro_batches, parameter_space, rows, traced
from keras_sfn.objective import objective as objective_lib


def of_function(loss_fn: Callable[[], tf.Tensor], space: parameter_space.ParameterSpace) -> Batch:
    """Returns the batch of a loss function that reads its rows by itself.

    Args:
        loss_fn: () -> the scalar loss.
        space: What is trained.
    """
    return Batch(loss_fn, without_outputs, space)


def without_outputs(loss_fn: Callable[[], tf.Tensor]) -> objective_lib.LossFunction:
    """Returns `loss_fn` as one that gives a loss and no outputs."""
    return lambda: (loss_fn(), None)


class Batch:
    """The loss of one batch, on one device.

    All losses that a batch gives draw the same random numbers: those of its seed.

    Args:
        data: Structure of tensors with the rows along the first axis, or None; whatever `loss_of`
            takes, where rows are not known.
        loss_of: Maps such a structure, or rows of it, to a loss function.
        space: What is trained.
        divisible: Whether a part of the rows may be taken for all: the loss is a mean over rows.
        slice_rows: Rows that are evaluated at a time; None for all.

    Attributes:
        space: As the argument.
        divisible: As the argument.
        synchronized: Whether layers sum over replicas: there are none.
    """

    synchronized = False

    def __init__(
        self,
        data: Any,
        loss_of: objective_lib.LossOf,
        space: parameter_space.ParameterSpace,
        *,
        divisible: bool = False,
        slice_rows: int | None = None,
    ) -> None:
        self.space = space
        self.divisible = divisible
        self._data = data
        self._loss_of = loss_of
        self._slice_rows = slice_rows
        self._seed: tf.Tensor | None = None
        self._draws: list[Any] = []

    @functools.cached_property
    def example(self) -> objective_lib.Objective:
        """The loss of the rows that are evaluated at a time: it shows what all consist of."""
        data = self._data
        if self._slice_rows is not None and self._in_slices(data):
            data = rows.take(rows.padded(data, self._slice_rows), 0, self._slice_rows)
        return objective_lib.Objective(self._loss_of(data), self.space, draws=self._draws)

    @functools.cached_property
    def traced(self) -> traced.Traced:
        """What one trace of the example shows."""
        return traced.trace(self.example)

    def reseed(self, seed: tf.Tensor) -> None:
        """Sets from what the losses that are made from now on draw.

        Args:
            seed: Shape (2,) integers, see `objective.Objective`.
        """
        self._seed = seed

    def whole(self) -> objective_lib.Loss:
        """Returns the loss of all rows."""
        return self._loss(self._data)

    def first(self, wanted: int | str) -> objective_lib.Loss:
        """Returns the loss of the first rows.

        Args:
            wanted: How many, at most all; `"auto"`: see `rows.of_curvature`.
        """
        taken = rows.of_curvature(wanted, rows.count(self._data))
        return self._loss(rows.first(self._data, taken))

    def part(self, index: tf.Tensor, count: int) -> objective_lib.Loss:
        """Returns the loss of the i-th of `count` parts, which together are all rows.

        Args:
            index: Scalar integer, i.
            count: Of the parts, at least 2.
        """
        start, size = rows.of_part(index, count, rows.count(self._data))
        return self._loss(rows.take(self._data, start, size))

    def _in_slices(self, data: Any) -> bool:
        if self._slice_rows is None:
            return False
        known = rows.static_count(data)
        return known is None or known > self._slice_rows

    def _loss(self, data: Any) -> objective_lib.Loss:
        if not self._in_slices(data):
            return objective_lib.Objective(
                self._loss_of(data), self.space, draws=self._draws, seed=self._seed
            )
        assert self._slice_rows is not None
        return micro_batches.MicroBatches(
            data,
            self._slice_rows,
            self._loss_of,
            self.space,
            self.traced,
            draws=self._draws,
            seed=self._seed,
        )
