"""How tensors depend on the rows of a batch, and what rules about ops share; see `row_axes`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf


class Rows(NamedTuple):
    """How a tensor depends on the rows of the batch.

    Attributes:
        axis: Along which they lie; None where they were summed or averaged.
        degree: The power of their number with which the values grow.
    """

    axis: int | None
    degree: float = 0.0


class RowsMeetError(Exception):
    """Rows meet in an op."""


class Walk(Protocol):
    """The tensors seen so far that depend on the rows.

    Attributes:
        count: Of the rows, where that is known.
    """

    count: int | None

    def knows(self, tensor: tf.Tensor) -> bool:
        """Whether a tensor depends on the rows."""

    def state_of(self, tensor: tf.Tensor) -> Rows:
        """Returns how a tensor depends on the rows."""

    def degree(self, op: Any, known: Sequence[Rows | None]) -> float:
        """Returns the degree of what an op makes."""

    def by_shape(self, op: Any, known: Sequence[Rows | None]) -> list[Rows | None]:
        """Follows an op that works by element, with broadcasting, or is taken to do so."""


# By type: (walk, op, states of its inputs) -> the state of all its outputs.
Rule = Callable[[Walk, Any, Sequence[Rows | None]], "Rows | None"]


def of_first(rule: Callable[[Walk, Any, int, float], Rows]) -> Rule:
    """Returns the rule of ops that leave the state of their first input as it is without an axis.

    Args:
        rule: (walk, op, axis, degree) -> the state of the outputs, of the axis and degree of the
            first input.
    """

    @functools.wraps(rule)
    def whole(walk: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
        state = known[0]
        if state is None or state.axis is None:
            return state
        return rule(walk, op, state.axis, state.degree)

    return whole


def constant(tensor: tf.Tensor) -> Any:
    """Returns the value of a small tensor that the graph holds as numbers, or None."""
    if (tensor.shape.num_elements() or 0) > _MOST_ENTRIES:
        return None
    value = tf.get_static_value(tensor)
    if value is None and tensor.op.type in _ARITHMETIC:
        inputs = [constant(given) for given in tensor.op.inputs]
        if all(given is not None for given in inputs):
            return _ARITHMETIC[tensor.op.type](tensor.op, *inputs)
    return value


def _slice(op: Any, *inputs: Any) -> Any:
    names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    masks = {name: op.get_attr(name) for name in names}
    with tf.init_scope():
        values = dict(zip(("input", "begin", "end", "strides"), inputs, strict=True))
        return tf.raw_ops.StridedSlice(**values, **masks).numpy()


# Of axes, widths and numbers of rows; what has more is data.
_MOST_ENTRIES = 64

# (op, values of its inputs) -> value: what axes and numbers of rows are worked out with, where
# TensorFlow does not do it while tracing.
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "AddV2": lambda _, *terms: np.add(*terms),
    "Cast": lambda _, value: np.asarray(value),
    "ConcatV2": lambda _, *parts: np.concatenate(parts[:-1]),
    "Mul": lambda _, *factors: np.multiply(*factors),
    "Pack": lambda _, *parts: np.stack(parts),
    "Prod": lambda _, values, axes: np.prod(values),
    "Range": lambda _, *limits: np.arange(*limits),
    "StridedSlice": _slice,
    "Sub": lambda _, *terms: np.subtract(*terms),
}


def static(op: Any, index: int) -> Any:
    """Returns the value of an op's input.

    Raises:
        RowsMeetError: It is not known while tracing.
    """
    value = constant(op.inputs[index])
    if value is None:
        raise RowsMeetError(op.type)
    return value


def entry(op: Any, index: int, axis: int) -> Any:
    """Returns what an op's input has for an axis, where that alone is known too."""
    tensor = op.inputs[index]
    if tensor.op.type == "Pack":
        value = constant(tensor.op.inputs[axis])
        if value is None:
            raise RowsMeetError(op.type)
        return value
    return static(op, index)[axis]


def axes_of(op: Any, index: int, rank: int | None) -> list[int]:
    """Returns axes that an op takes as its input, counted from the first one."""
    if rank is None:
        raise RowsMeetError(op.type)
    return [int(axis) % rank for axis in static(op, index).ravel()]


def like(walk: Walk, shape: tf.Tensor) -> Rows | None:
    """Returns the state of a tensor whose shape is given, if that is seen in the graph."""
    if shape.op.type not in ("Shape", "ShapeN"):
        return None
    tensor = shape.op.inputs[shape.value_index]
    return walk.state_of(tensor) if walk.knows(tensor) else None
