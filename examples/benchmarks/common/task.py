"""What a benchmark trains: rows in memory, a loss, and a function that builds the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Task:
    """A problem: the loss of a network on rows in memory.

    Attributes:
        name: One word.
        inputs: Shape (rows, ...), or a structure of such arrays.
        targets: Shape (rows, outputs).
        build: Maps a seed to a network that is not compiled; see `set_precision`.
        figure: What `error` returns, in words; without it, what the loss is.
        error: Maps a network to the figure that counts, where that is not the loss.
        loss: As `compile` takes it: a mean over rows.
    """

    name: str
    inputs: Any
    targets: np.ndarray
    build: Callable[[int], keras.Model]
    figure: str = "training mean squared error"
    error: Callable[[keras.Model], float] | None = None
    loss: Any = "mse"

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(tf.nest.flatten(self.inputs)[0])

    def set_precision(self) -> None:
        """Makes the precision of the rows Keras's default, in which it computes losses.

        Call it before `build`: a float64 network's loss would be computed in float32.
        """
        keras.config.set_floatx(self.inputs.dtype.name)
        keras.config.set_dtype_policy(self.inputs.dtype.name)

    def tensors(self) -> Task:
        """Returns the task with its rows as tensors, which graphs share instead of copying."""
        inputs = tf.nest.map_structure(tf.constant, self.inputs)
        same = self.targets is self.inputs
        return dataclasses.replace(
            self, inputs=inputs, targets=inputs if same else tf.constant(self.targets)
        )

    def loss_at(
        self, model: keras.Model, trainable: Sequence[tf.Tensor], *, training: bool
    ) -> tf.Tensor:
        """Returns the loss on all rows, with what layers add; the network does not change.

        Args:
            model: Not changed.
            trainable: Values in place of its trainable variables'.
            training: Whether layers run in training mode, on all rows as one batch.
        """
        # Not False: a `call` of one's own need not have the argument.
        mode = {"training": True} if training else {}
        outputs, _, added = model.stateless_call(
            trainable,
            [variable.value for variable in model.non_trainable_variables],
            tf.nest.map_structure(tf.convert_to_tensor, self.inputs),
            return_losses=True,
            **mode,
        )
        # A function gives a number a row, an object their mean.
        loss = tf.reduce_mean(keras.losses.get(self.loss)(self.targets, outputs))
        return tf.add_n([loss, *added])
