"""A list of parameter tensors seen as one flat vector, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import keras
import tensorflow as tf

from keras_sfn import validation
from keras_sfn.krylov import vectors

# A vector of shape (n,), or one tensor a variable, for which no vector is made and taken apart.
Point: TypeAlias = tf.Tensor | Sequence[tf.Tensor]


class ParameterSpace:
    """The flat coordinates of a list of variables.

    Coordinates run over `variables` in turn, each raveled in C order. The vector has the widest
    floating dtype among the variables and at least float32, so that the subspace arithmetic is
    never done in half precision.

    Args:
        variables: Non-empty sequence of `keras.Variable` with real floating dtypes.

    Raises:
        TypeError: A variable is not a `keras.Variable`, or is complex or integer.
        ValueError: `variables` is empty.

    Attributes:
        size: Number of coordinates n.
        dtype: Name of the vector's dtype, `"float32"` or `"float64"`.
        in_place: Whether `flatten` writes one part after the other into the vector, instead of
            joining all at the end. XLA makes parts in their places then; elsewhere it takes longer.
    """

    def __init__(self, variables: Sequence[keras.Variable]) -> None:
        variables = list(variables)
        if not variables:
            raise ValueError(
                "`variables` must hold at least one trainable variable. Received an empty list. "
                "Build the model first, or set `layer.trainable = True` on the layers to train."
            )
        for variable in variables:
            _check_variable(variable)
        self.variables = variables
        self._shapes = [tuple(int(d) for d in v.shape) for v in variables]
        self._dtypes = [_storage_dtype(v) for v in variables]
        self._sizes = [int(tf.TensorShape(s).num_elements()) for s in self._shapes]
        self.size = sum(self._sizes)
        self.dtype = "float64" if "float64" in self._dtypes else "float32"
        self.in_place = False

    def values(self) -> list[tf.Tensor]:
        """Returns the current values, each in the dtype its variable is stored in."""
        return [
            tf.cast(tf.convert_to_tensor(v), d)
            for v, d in zip(self.variables, self._dtypes, strict=True)
        ]

    def flatten(self, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        """Joins one tensor a variable into a vector of shape (n,); `IndexedSlices` become dense."""
        parts = [
            tf.reshape(tf.cast(tf.convert_to_tensor(t), self.dtype), (size,))
            for t, size in zip(tensors, self._sizes, strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        return self._written(parts) if self.in_place else tf.concat(parts, axis=0)

    def _written(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        vector, end = tf.zeros((self.size,), self.dtype), self.size
        # From the last one on: reverse passes give the last layers first.
        for part, size in reversed(list(zip(parts, self._sizes, strict=True))):
            end -= size
            vector = vectors.write(vector, end, part)
        return vector

    def displaced(self, values: Sequence[tf.Tensor], displacement: tf.Tensor) -> list[tf.Tensor]:
        """Returns one tensor a variable plus its part of a displacement of shape (n,).

        The sum is taken in the vector's dtype and rounded to that of the value.
        """
        return [
            tf.cast(tf.cast(value, self.dtype) + tf.reshape(part, value.shape), value.dtype)
            for value, part in zip(values, self.split(displacement), strict=True)
        ]

    def tensors(self, point: Point) -> list[tf.Tensor]:
        """Returns a point as one tensor a variable, all of the graph at hand: a tape sees them."""
        if tf.is_tensor(point):
            return self.unflatten(point)
        return [tf.identity(tensor) for tensor in point]

    def unflatten(self, vector: tf.Tensor) -> list[tf.Tensor]:
        """Splits a vector of shape (n,) into tensors of the variables' shapes and dtypes."""
        return [
            tf.cast(tf.reshape(part, shape), dtype)
            for part, shape, dtype in zip(
                self.split(vector), self._shapes, self._dtypes, strict=True
            )
        ]

    def split(self, vector: tf.Tensor) -> list[tf.Tensor]:
        """Splits a vector of shape (n,) into one vector a variable."""
        return [vector] if len(self._sizes) == 1 else tf.split(vector, self._sizes)


def _storage_dtype(variable: keras.Variable) -> str:
    # `variable.dtype` answers with the compute dtype inside an autocast scope.
    return keras.backend.standardize_dtype(variable.value.dtype)


def _check_variable(variable: keras.Variable) -> None:
    if not isinstance(variable, keras.Variable):
        raise TypeError(
            "`variables` must be `keras.Variable` objects, because the loss is evaluated at trial "
            f"points through `keras.StatelessScope`. Received: {validation.shown(variable)}. Wrap "
            "the value as `keras.Variable(value)`."
        )
    dtype = _storage_dtype(variable)
    if not keras.backend.is_float_dtype(dtype):
        raise TypeError(
            "Every trained variable must have a real floating dtype. Received: "
            f"variable `{variable.path}` of dtype {dtype}. Set `trainable=False` on it, or store "
            "real and imaginary parts as two float variables."
        )
