"""The mean over some parts of a batch, one after the other."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import parameter_space


class RowParts:
    """The loss of several parts of a batch that have equally many rows, for products alone.

    How many parts are taken is a tensor: a compiled step takes another number without a change.

    Args:
        part: i -> the loss of the i-th part.
        taken: Scalar integer, how many parts, from the first on.
        space: What is trained.
    """

    def __init__(
        self,
        part: Callable[[tf.Tensor], objective_lib.Loss],
        taken: tf.Tensor,
        space: parameter_space.ParameterSpace,
    ) -> None:
        self.space = space
        self._part = part
        self._taken = taken

    def over_parts(
        self, compute: Callable[[objective_lib.Objective], tf.Tensor], shape: tuple[int, ...]
    ) -> tf.Tensor:
        """See `objective.Objective.over_parts`; the mean over the parts taken."""

        def body(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return index + 1, total + self._part(index).over_parts(compute, shape)

        start = (tf.constant(0), tf.zeros(shape, self.space.dtype))
        total = tf.while_loop(
            lambda index, _: index < self._taken, body, start, parallel_iterations=1
        )[1]
        return total / tf.cast(self._taken, total.dtype)
