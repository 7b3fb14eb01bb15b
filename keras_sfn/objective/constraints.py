"""Constraints of variables, as Keras's `kernel_constraint`, within one step.

Keras projects a variable onto its constraint after each step. A step is judged by the loss, so
candidates are projected before that. Two things besides, without which few of them lower the loss:

- The gradient is the one that can be followed: what a short step along the negative gradient is
  moved by after projection. At a bound it is zero in coordinates that would leave (for bounds this
  is the projected gradient; on a sphere it is the tangential one).
- These coordinates stay where they are. Else a direction -B g with any matrix B but a diagonal one
  may go up after projection, however short the step.

Reference: Bertsekas, Projected Newton methods for optimization problems with simple constraints,
SIAM Journal on Control and Optimization 20 (1982).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_sfn.objective import parameter_space

# Length of the short step, relative to the norm of a variable. A variable that is farther than this
# from its projection was never projected.
_SHORT = 1e-3

Product = Callable[[tf.Tensor], tf.Tensor]


def enforce(variables: Sequence[keras.Variable]) -> None:
    """Projects variables that are not where their constraints want them, as initial values may be.

    Others stay to the last digit: Keras's norms have an epsilon, by which each projection shrinks.

    Args:
        variables: What is trained.
    """
    for variable in variables:
        if variable.constraint is not None:
            value = tf.convert_to_tensor(variable.value)
            projected = _projected(variable, value)
            outside = tf.norm(projected - value) > _SHORT * tf.norm(value)
            variable.assign(tf.where(outside, projected, value))


def any_of(variables: Sequence[keras.Variable]) -> bool:
    """Whether any of the variables has a constraint."""
    return any(variable.constraint is not None for variable in variables)


class Constraints:
    """The constraints at one point.

    Args:
        space: The variables.
        values: The point, one tensor a variable.
        gradient: Of the loss there, shape (n,).

    Attributes:
        gradient: The part of the gradient that can be followed, shape (n,).
    """

    def __init__(
        self,
        space: parameter_space.ParameterSpace,
        values: Sequence[tf.Tensor],
        gradient: tf.Tensor,
    ) -> None:
        self._space, self._values = space, values
        self._any = any_of(space.variables)
        self.gradient, self._free = gradient, tf.ones_like(gradient)
        if self._any:
            pairs = [
                _followed(variable, tf.cast(value, space.dtype), tf.reshape(part, value.shape))
                for variable, value, part in zip(
                    space.variables, values, space.split(gradient), strict=True
                )
            ]
            followed, free = zip(*pairs, strict=True)
            self.gradient, self._free = space.flatten(followed), space.flatten(free)

    def masked(self, matvec: Product) -> Product:
        """Returns the product with the Hessian in the coordinates that may move.

        Args:
            matvec: v -> H v on shape (n,).
        """
        if not self._any:
            return matvec
        return lambda vector: self._free * matvec(self._free * vector)

    def moved(self, displacement: tf.Tensor) -> list[tf.Tensor]:
        """Returns the projected point after a displacement of shape (n,), a tensor a variable."""
        space = self._space
        if not self._any:
            return space.displaced(self._values, displacement)
        moved = space.displaced(self._values, self._free * displacement)
        return [_projected(v, value) for v, value in zip(space.variables, moved, strict=True)]

    def step(self, displacement: tf.Tensor) -> tf.Tensor:
        """Returns the displacement that is left after projection, shape (n,)."""
        if not self._any:
            return displacement
        dtype = self._space.dtype
        return self._space.flatten(
            [
                tf.cast(after, dtype) - tf.cast(before, dtype)
                for after, before in zip(self.moved(displacement), self._values, strict=True)
            ]
        )

    def slope(
        self, gradient_at: Callable[[parameter_space.Point], tf.Tensor], displacement: tf.Tensor
    ) -> tf.Tensor:
        """Returns the gradient of the loss of the projected point in the displacement, shape (n,).

        Args:
            gradient_at: Point -> gradient of the loss, shape (n,).
            displacement: Shape (n,).
        """
        if not self._any:
            return gradient_at(self.moved(displacement))
        with tf.GradientTape() as tape:
            tape.watch(displacement)
            moved = self.moved(displacement)
        gradient = gradient_at(moved)
        parts = [
            tf.cast(tf.reshape(part, value.shape), value.dtype)
            for part, value in zip(self._space.split(gradient), moved, strict=True)
        ]
        return tape.gradient(moved, displacement, output_gradients=parts)


def _projected(variable: keras.Variable, value: tf.Tensor) -> tf.Tensor:
    if variable.constraint is None:
        return value
    return tf.cast(tf.convert_to_tensor(variable.constraint(value)), value.dtype)


def _followed(
    variable: keras.Variable, value: tf.Tensor, gradient: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what can be followed of a variable's gradient, and which coordinates may move."""
    if variable.constraint is None:
        return gradient, tf.ones_like(gradient)
    size = tf.norm(value)
    size = tf.where(size > 0, size, tf.ones_like(size))
    length = tf.math.divide_no_nan(_SHORT * size, tf.norm(gradient))
    tried = value - length * gradient
    moved = _projected(variable, tried)
    # As it is where nothing was projected: a difference would lose digits.
    untouched = tf.equal(moved, tried)
    difference = tf.math.divide_no_nan(value - moved, length)
    free = untouched | tf.not_equal(moved, value)
    # What is not finite stays to be seen.
    difference = tf.where(tf.math.is_finite(gradient), difference, gradient)
    return tf.where(untouched, gradient, difference), tf.cast(free, gradient.dtype)
