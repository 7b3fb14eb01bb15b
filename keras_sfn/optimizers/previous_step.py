"""The last accepted step, which joins the next subspace: optimizer state, one flat vector.

As one vector it goes into the subspace without a copy.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_sfn.objective import parameter_space


class PreviousStep:
    """Holds the last accepted step.

    Args:
        space: The variables that the optimizer is built for.
        add_variable: `keras.optimizers.Optimizer.add_variable` of the optimizer.
    """

    def __init__(
        self, space: parameter_space.ParameterSpace, add_variable: Callable[..., keras.Variable]
    ) -> None:
        self._space = space
        self._vector = add_variable(
            shape=(space.size,),
            dtype=space.dtype,
            aggregation="only_first_replica",
            name="previous_step",
        )

    def read(self, space: parameter_space.ParameterSpace) -> tf.Tensor:
        """Returns the step on the variables of `space`, shape (n,); zero before the first.

        Args:
            space: All or some of the variables that the optimizer is built for.
        """
        whole = tf.convert_to_tensor(self._vector)
        if self._is_whole(space):
            return whole
        parts = self._by_variable(self._space, whole)
        return tf.concat([parts[id(v)] for v in space.variables], axis=0)

    def keep(
        self, space: parameter_space.ParameterSpace, step: tf.Tensor, accepted: tf.Tensor
    ) -> None:
        """Remembers an accepted step; that of other variables stays.

        Args:
            space: The variables of the step.
            step: Shape (n,).
            accepted: Scalar boolean.
        """
        before = tf.convert_to_tensor(self._vector)
        if not self._is_whole(space):
            parts = self._by_variable(self._space, before) | self._by_variable(space, step)
            step = tf.concat([parts[id(v)] for v in self._space.variables], axis=0)
        self._vector.assign(tf.where(accepted, step, before))

    def _is_whole(self, space: parameter_space.ParameterSpace) -> bool:
        own = self._space.variables
        return len(own) == len(space.variables) and all(
            a is b for a, b in zip(own, space.variables, strict=True)
        )

    @staticmethod
    def _by_variable(
        space: parameter_space.ParameterSpace, vector: tf.Tensor
    ) -> dict[int, tf.Tensor]:
        parts = space.split(vector)
        return {id(v): part for v, part in zip(space.variables, parts, strict=True)}
