"""Keras's optimizer, where a finished step arrives in the place of a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_sfn.optimizers import caught


class FinishedSteps(keras.optimizers.Optimizer):
    """Abstract: adds steps to variables; a subclass computes them.

    Constraints, moving averages and the iteration counter are Keras's own.
    """

    def add_steps(
        self, steps: Sequence[tf.Tensor], variables: Sequence[keras.Variable], accepted: tf.Tensor
    ) -> None:
        """Adds a step to the variables, and weight decay with it.

        Args:
            steps: One a variable.
            variables: What moves.
            accepted: Scalar boolean: a step that is not has no decay.
        """
        if self.weight_decay is not None:
            steps = [
                step - tf.where(accepted, self._decay(variable), 0)
                for step, variable in zip(steps, variables, strict=True)
            ]
        super().apply(steps, variables)

    def _decay(self, variable: keras.Variable) -> tf.Tensor:
        if not self._use_weight_decay(variable):
            return tf.zeros_like(variable.value)
        rate = keras.ops.convert_to_tensor(self.learning_rate, variable.dtype)
        return self.weight_decay * rate * variable.value

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Does nothing: the decay is part of the step, so that a rejected step has none."""

    def _backend_update_step(
        self,
        grads: Sequence[tf.Tensor],
        trainable_variables: Sequence[keras.Variable],
        learning_rate: tf.Tensor,
    ) -> None:
        """Hands each step to `update_step`. Keras's own would first sum steps over the replicas."""
        for step, variable in zip(grads, trainable_variables, strict=True):
            self.update_step(step, variable, learning_rate)

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Adds the finished step, which arrives in the place of a gradient."""
        self.assign_add(variable, gradient)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Refuses: a second-order step cannot be computed from gradients alone.

        In a model's own `train_step` that `fit` runs, it takes a step on the loss that the
        gradients are of.

        Raises:
            ValueError: Always, elsewhere.
        """
        catcher = caught.in_force()
        if catcher is None:
            raise ValueError(_NO_GRADIENTS)
        catcher.applied(self, grads, trainable_variables)

    def refuse_unknown(self, variables: Sequence[keras.Variable]) -> None:
        """Raises where the optimizer was not built with a variable.

        Args:
            variables: What is to move.

        Raises:
            ValueError: One is unknown.
        """
        # Keras's own check fails to write its message inside a graph, up to Keras 3.12.
        for variable in variables:
            try:
                self._get_variable_index(variable)
            except KeyError:
                raise ValueError(
                    f"Unknown variable: {variable.path}. An optimizer trains the variables that it "
                    "was built with and no others. Received one that it was not built with. Make a "
                    "new optimizer for another model, or for layers that thaw."
                ) from None


_NO_GRADIENTS = (
    "`apply` and `apply_gradients` work with `keras_sfn` optimizers in the `train_step` of a model "
    "that `fit` trains on one device, and nowhere else: the step needs Hessian-vector products of "
    "the loss, not only its gradient. In a loop of your own put this in the place of the tape and "
    "of this call:\n\n"
    "    def loss_fn():\n"
    "        return ...  # the scalar loss, as it was made under the tape\n"
    "    loss = optimizer.minimize(loss_fn, variables)"
)
