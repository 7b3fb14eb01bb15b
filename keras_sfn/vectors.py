"""A list of parameter tensors seen as one flat vector, and back."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf


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
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=0)

    def displaced(self, values: Sequence[tf.Tensor], displacement: tf.Tensor) -> tf.Tensor:
        """Returns one tensor a variable plus a displacement of shape (n,), as a vector.

        Added variable by variable: a program does not hold the values as a vector for it.
        """
        pairs = zip(values, self.split(displacement), strict=True)
        return self.flatten(
            [tf.reshape(tf.cast(value, self.dtype), part.shape) + part for value, part in pairs]
        )

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


# XLA sums one number after the other on a CPU: a fold makes that so many numbers fewer.
_FOLDS = 16
_SHORTEST_FOLDED = 4096


def dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Returns the product of two vectors of shape (n,), a scalar.

    In XLA's code for CPUs several times as fast as `tf.tensordot`, and with less rounding: pieces
    of the vectors are multiplied and added as vectors, and what is left is summed in rows.
    """
    length = int(a.shape[0]) // _FOLDS
    if length < _SHORTEST_FOLDED // _FOLDS:
        return tf.tensordot(a, b, 1)
    pieces = [slice(i * length, (i + 1) * length) for i in range(_FOLDS)]
    folded = tf.add_n([a[piece] * b[piece] for piece in pieces])
    width = int(length**0.5)
    whole = length // width * width
    rows = tf.reduce_sum(tf.reshape(folded[:whole], (-1, width)), axis=1)
    rest = tf.tensordot(a[_FOLDS * length :], b[_FOLDS * length :], 1)
    return tf.reduce_sum(rows) + tf.reduce_sum(folded[whole:]) + rest


def norm(vector: tf.Tensor) -> tf.Tensor:
    """Returns the Euclidean norm of a vector of shape (n,), a scalar."""
    return tf.sqrt(dot(vector, vector))


def _storage_dtype(variable: keras.Variable) -> str:
    # `variable.dtype` answers with the compute dtype inside an autocast scope.
    return keras.backend.standardize_dtype(variable.value.dtype)


def _check_variable(variable: keras.Variable) -> None:
    if not isinstance(variable, keras.Variable):
        raise TypeError(
            "`variables` must be `keras.Variable` objects, because the loss is evaluated at trial "
            f"points through `keras.StatelessScope`. Received: {variable!r}. Wrap the value as "
            "`keras.Variable(value)`."
        )
    dtype = _storage_dtype(variable)
    if not keras.backend.is_float_dtype(dtype):
        raise TypeError(
            "Every trained variable must have a real floating dtype. Received: "
            f"variable `{variable.path}` of dtype {dtype}. Set `trainable=False` on it, or store "
            "real and imaginary parts as two float variables."
        )
