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
    """Returns the value of a tensor that the graph holds as numbers, or None."""
    value = tf.get_static_value(tensor)
    if value is None and tensor.op.type in _ARITHMETIC:
        inputs = [constant(given) for given in tensor.op.inputs]
        if all(given is not None for given in inputs):
            return _ARITHMETIC[tensor.op.type](*inputs)
    return value


# What axes and numbers of rows are worked out with, where TensorFlow does not do it while tracing.
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "AddV2": np.add,
    "Cast": np.asarray,
    "ConcatV2": lambda *parts: np.concatenate(parts[:-1]),
    "Mul": np.multiply,
    "Pack": lambda *parts: np.stack(parts),
    "Prod": lambda values, _: np.prod(values),
    "Range": np.arange,
    "Sub": np.subtract,
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
