"""What each op does with the axis of the rows; see `row_axes`."""

from __future__ import annotations

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


_REDUCTIONS = frozenset({"All", "Any", "ArgMax", "ArgMin", "EuclideanNorm", "Max", "Mean", "Min"})
_REDUCTIONS |= {"Prod", "Sum"}

# Along the last axis, and along the last two.
_LAST_AXIS = frozenset(
    {"LogSoftmax", "Softmax", "SoftmaxCrossEntropyWithLogits", "TopKV2", "InTopKV2"}
    | {"FFT", "IFFT", "RFFT", "IRFFT"}
)
_LAST_TWO_AXES = frozenset(
    {
        "Cholesky",
        "FFT2D",
        "IFFT2D",
        "IRFFT2D",
        "MatrixBandPart",
        "MatrixDeterminant",
        "MatrixInverse",
    }
    | {
        "MatrixDiagPartV3",
        "MatrixSolve",
        "MatrixTriangularSolve",
        "Qr",
        "RFFT2D",
        "SelfAdjointEigV2",
    }
    | {"Svd"}
)

# Along the axis of their second input.
_SCANS = frozenset({"Cumprod", "Cumsum", "CumulativeLogsumexp", "ReverseV2", "Roll"})

# Made for so many rows, from a shape.
_OF_SHAPE = frozenset(
    {"Empty", "Fill", "StatelessRandomNormalV2", "StatelessRandomUniformFullIntV2"}
    | {"StatelessRandomUniformIntV2", "StatelessRandomUniformV2", "StatelessTruncatedNormalV2"}
)


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


def _entry(op: Any, index: int, axis: int) -> Any:
    """Returns what an op's input has for an axis, where that alone is known too."""
    tensor = op.inputs[index]
    if tensor.op.type == "Pack":
        value = constant(tensor.op.inputs[axis])
        if value is None:
            raise RowsMeetError(op.type)
        return value
    return static(op, index)[axis]


def _axes(op: Any, index: int, rank: int | None) -> list[int]:
    """Returns axes that an op takes as its input, counted from the first one."""
    if rank is None:
        raise RowsMeetError(op.type)
    return [int(axis) % rank for axis in static(op, index).ravel()]


def _reduction(walk: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    state, tensor = known[0], op.inputs[0]
    if state is None:
        return None
    if state.axis is None:
        return Rows(None, state.degree)
    source = op.inputs[1].op
    if source.type == "BroadcastGradientArgs":
        # In a derivative within the loss: over the axes along which the tensor was repeated.
        return _like(walk, source.inputs[op.inputs[1].value_index]) or Rows(None, state.degree + 1)
    axes = _axes(op, 1, tensor.shape.rank)
    if state.axis not in axes:
        kept = op.type not in ("ArgMax", "ArgMin") and op.get_attr("keep_dims")
        before = 0 if kept else sum(axis < state.axis for axis in axes)
        return Rows(state.axis - before, state.degree)
    if op.type in ("All", "Any", "Mean"):
        return Rows(None, state.degree)
    if op.type == "Sum":
        return Rows(None, state.degree + 1)
    raise RowsMeetError(op.type)


def _like(walk: Walk, shape: tf.Tensor) -> Rows | None:
    """Returns the state of a tensor whose shape is given, if that is seen in the graph."""
    if shape.op.type not in ("Shape", "ShapeN"):
        return None
    tensor = shape.op.inputs[shape.value_index]
    return walk.state_of(tensor) if walk.knows(tensor) else None


def _product(walk: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    """Follows a product in which an axis of both is summed over."""
    labels = _einsum_labels(op) if op.type == "Einsum" else _matmul_labels(op)
    *inputs, output = labels
    of_rows = set()
    for own, state in zip(inputs, known, strict=True):
        if state is not None and state.axis is not None:
            of_rows.add(own[state.axis])
    degree = walk.degree(op, known)
    if not of_rows:
        return Rows(None, degree)
    if len(of_rows) > 1:
        raise RowsMeetError(op.type)
    [label] = of_rows
    return Rows(output.index(label), degree) if label in output else Rows(None, degree + 1)


def _matmul_labels(op: Any) -> list[list[str]]:
    turned = ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
    ranks = [tensor.shape.rank for tensor in op.inputs]
    if None in ranks:
        raise RowsMeetError(op.type)
    ends = [["i", "j"], ["j", "k"]]
    labels = []
    for rank, end, name in zip(ranks, ends, turned, strict=True):
        outer = [f"outer {axis}" for axis in range(rank - 2, 0, -1)]
        labels.append([*outer, *(end[::-1] if op.get_attr(name) else end)])
    outer = max(labels, key=len)[:-2]
    return [*labels, [*outer, "i", "k"]]


def _einsum_labels(op: Any) -> list[list[str]]:
    equation = op.get_attr("equation").decode().replace(" ", "")
    inputs, output = equation.split("->")
    texts = inputs.split(",")
    ranks = [tensor.shape.rank for tensor in op.inputs]
    if None in ranks:
        raise RowsMeetError(op.type)
    labels, most = [], 0
    for text, rank in zip(texts, ranks, strict=True):
        count = rank - len(text.replace("...", ""))
        most = max(most, count)
        labels.append(_expanded(text, count))
    return [*labels, _expanded(output, most)]


def _expanded(text: str, count: int) -> list[str]:
    before, dots, after = text.partition("...")
    return [*before, *(f"outer {axis}" for axis in range(count, 0, -1) if dots), *after]


def _reshape(walk: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    state, tensor, output = known[0], op.inputs[0], op.outputs[0]
    if state is None or state.axis is None:
        return state
    like = _like(walk, op.inputs[1])
    if like is not None and like.axis is not None:
        return Rows(like.axis, state.degree)
    if tensor.shape.rank is None or output.shape.rank is None:
        raise RowsMeetError(op.type)
    # The rows stay apart where as much lies before their axis as before.
    before = _size(tensor.shape[: state.axis])
    for axis, new in enumerate(output.shape):
        if before is None or _size(output.shape[:axis]) != before:
            continue
        if new is None or (walk.count is not None and new % walk.count == 0):
            return Rows(axis, state.degree)
    raise RowsMeetError(op.type)


def _size(shape: tf.TensorShape) -> int | None:
    return shape.num_elements()


def _transpose(_: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    state = known[0]
    if state is None or state.axis is None:
        return state
    return Rows(_axes(op, 1, op.inputs[0].shape.rank).index(state.axis), state.degree)


def _expand_dims(_: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    state = known[0]
    if state is None or state.axis is None:
        return state
    [axis] = _axes(op, 1, op.outputs[0].shape.rank)
    return Rows(state.axis + (axis <= state.axis), state.degree)


def _squeeze(_: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    state, rank = known[0], op.inputs[0].shape.rank
    if state is None or state.axis is None:
        return state
    axes = [axis % rank for axis in op.get_attr("squeeze_dims")]
    if not axes:
        axes = [axis for axis, length in enumerate(op.inputs[0].shape) if length == 1]
    return Rows(state.axis - sum(axis < state.axis for axis in axes), state.degree)


def _join(walk: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    """Follows tensors that are put side by side: not along the rows."""
    axes = {state.axis for state in known if state is not None and state.axis is not None}
    degree = walk.degree(op, known)
    if not axes:
        return Rows(None, degree)
    if len(axes) > 1:
        raise RowsMeetError(op.type)
    [axis] = axes
    if op.type == "Pack":
        return Rows(axis + (op.get_attr("axis") % op.outputs[0].shape.rank <= axis), degree)
    if _axes(op, len(op.inputs) - 1, op.inputs[0].shape.rank) == [axis]:
        raise RowsMeetError(op.type)
    return Rows(axis, degree)


def _split(_: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    at = {"Split": 1, "SplitV": 0, "Unpack": 0}[op.type]
    state, rank = known[at], op.inputs[at].shape.rank
    if state is None or state.axis is None:
        return state
    if op.type == "Unpack":
        axis = op.get_attr("axis") % rank
    else:
        [axis] = _axes(op, 0 if op.type == "Split" else 2, rank)
    if axis == state.axis:
        raise RowsMeetError(op.type)
    return Rows(state.axis - (op.type == "Unpack" and axis < state.axis), state.degree)


def _along(index: int) -> Rule:
    """Returns the rule of ops that work along the axes of an input."""

    def rule(walk: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
        state = known[0]
        if state is None or state.axis is None:
            return state
        if state.axis in _axes(op, index, op.inputs[0].shape.rank):
            raise RowsMeetError(op.type)
        return Rows(state.axis, walk.degree(op, known[:1]))

    return rule


def _last(count: int) -> Rule:
    """Returns the rule of ops that work along the last axes."""

    def rule(walk: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
        states = [state for state in known if state is not None and state.axis is not None]
        rank = op.inputs[0].shape.rank
        if rank is None or any(state.axis >= rank - count for state in states):
            raise RowsMeetError(op.type)
        return Rows(states[0].axis if states else None, walk.degree(op, known))

    return rule


def _tile(_: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    state = known[0]
    if state is not None and state.axis is not None and _entry(op, 1, state.axis) != 1:
        raise RowsMeetError(op.type)
    return state


def _pad(_: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    state, widths = known[0], constant(op.inputs[1])
    if state is None or state.axis is None:
        return state
    before, after = op.inputs[0].shape[state.axis], op.outputs[0].shape[state.axis]
    # In a derivative within the loss the widths are worked out from shapes: then by shape.
    if before != after or (widths is not None and widths[state.axis].any()):
        raise RowsMeetError(op.type)
    return state


def _slice_gradient(walk: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    state = known[4]
    if state is None:
        return None
    like = _like(walk, op.inputs[0])
    if like is None or like.axis is None:
        return walk.by_shape(op, known)[0]
    return Rows(like.axis, state.degree)


def _slice(walk: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    state, tensor = known[0], op.inputs[0]
    if state is None or state.axis is None:
        return state
    before, after = tensor.shape[state.axis], op.outputs[0].shape[state.axis]
    whole = before == after if before is not None else _like(walk, op.inputs[2]) == state
    if not whole and (before != after or _entry(op, 1, state.axis) != 0):
        raise RowsMeetError(op.type)
    return state


def _strided_slice(walk: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    state, tensor = known[0], op.inputs[0]
    if state is None:
        return None
    if state.axis is None:
        return _of_shape(walk, op, state) if tensor.op.type == "Shape" else state
    masks = [op.get_attr(f"{name}_mask") for name in ("ellipsis", "new_axis", "shrink_axis")]
    whole = op.get_attr("begin_mask") & op.get_attr("end_mask")
    length, rank = op.inputs[1].shape[0], tensor.shape.rank
    if length is None or rank is None:
        raise RowsMeetError(op.type)
    taken = sum(not masks[1] >> index & 1 for index in range(length))
    source = made = 0
    for index in range(length):
        ellipsis, new, shrink = (mask >> index & 1 for mask in masks)
        if ellipsis:
            width = rank - taken + 1
            if source <= state.axis < source + width:
                return Rows(made + state.axis - source, state.degree)
            source, made = source + width, made + width
        elif new:
            made += 1
        elif source == state.axis:
            strides = constant(op.inputs[3])
            if shrink or not whole >> index & 1 or strides is None or strides[index] != 1:
                raise RowsMeetError(op.type)
            return Rows(made, state.degree)
        else:
            source, made = source + 1, made + (not shrink)
    return Rows(made + state.axis - source, state.degree)


def _of_shape(walk: Walk, op: Any, state: Rows) -> Rows | None:
    """Follows a part of a shape: whether the number of rows is in it."""
    shaped = walk.state_of(op.inputs[0].op.inputs[0])
    begin, end = static(op, 1)[0], static(op, 2)[0]
    rank = op.inputs[0].shape[0]
    if shaped.axis is None or rank is None:
        return state
    begin = 0 if op.get_attr("begin_mask") & 1 else begin % rank
    end = begin + 1 if op.get_attr("shrink_axis_mask") & 1 else end
    end = rank if op.get_attr("end_mask") & 1 else end + rank * (end < 0)
    return state if begin <= shaped.axis < end else None


def _shape(_: Walk, __: Any, known: Sequence[Rows | None]) -> Rows | None:
    state = known[0]
    return None if state is None or state.axis is None else Rows(None, 1)


def _gather(_: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    values, indices = known[:2]
    [axis] = _axes(op, 2, op.inputs[0].shape.rank)
    shared = op.get_attr("batch_dims")
    if values is None or values.axis is None:
        if indices is None or indices.axis is None:
            return values or indices
        return Rows(axis + indices.axis - shared)
    if indices is not None and indices.axis is not None:
        if not values.axis == indices.axis < shared:
            raise RowsMeetError(op.type)
        return values
    if axis == values.axis:
        raise RowsMeetError(op.type)
    after = values.axis > axis
    return Rows(values.axis + after * (op.inputs[1].shape.rank - 1 - shared), values.degree)


def _gather_nd(_: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    values, indices = known[:2]
    if values is not None and values.axis is not None:
        raise RowsMeetError(op.type)
    return indices


def _one_hot(_: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    state, axis = known[0], op.get_attr("axis")
    if state is None or state.axis is None:
        return state
    return Rows(state.axis + (0 <= axis <= state.axis))


def _numbered(*_: Any) -> Rows | None:
    return Rows(0)


def _filled(_: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    for axis, length in enumerate(op.outputs[0].shape or ()):
        if length is None:
            return Rows(axis)
    return None


def _broadcast(_: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
    state, output = known[0], op.outputs[0]
    if state is None:
        return _filled(_, op, known)
    if state.axis is None:
        return state
    like = _like(_, op.inputs[1])
    if like is not None and like.axis is not None:
        return Rows(like.axis, state.degree)
    if output.shape.rank is None or op.inputs[0].shape.rank is None:
        raise RowsMeetError(op.type)
    return Rows(state.axis + output.shape.rank - op.inputs[0].shape.rank, state.degree)


def _listed(step: int) -> Rule:
    """Returns the rule of lists of tensors, whose state is that of an element."""

    def rule(_: Walk, op: Any, known: Sequence[Rows | None]) -> Rows | None:
        state = next((state for state in known if state is not None), None)
        if state is None or state.axis is None:
            return state
        if state.axis + step < 0:
            raise RowsMeetError(op.type)
        return Rows(state.axis + step, state.degree)

    return rule


def _squares(_: Walk, __: Any, known: Sequence[Rows | None]) -> Rows | None:
    state = known[0]
    return None if state is None else Rows(None, 2 * state.degree + (state.axis is not None))


RULES: dict[str, Rule] = {
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(("BatchMatMulV2", "BatchMatMulV3", "Einsum", "MatMul"), _product),
    **dict.fromkeys(_LAST_AXIS, _last(1)),
    **dict.fromkeys(_LAST_TWO_AXES, _last(2)),
    **dict.fromkeys(_SCANS - {"Roll"}, _along(1)),
    **dict.fromkeys(_OF_SHAPE, _filled),
    **dict.fromkeys(("ConcatV2", "Pack"), _join),
    **dict.fromkeys(("Split", "SplitV", "Unpack"), _split),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), _pad),
    **dict.fromkeys(("Shape", "ShapeN", "Size"), _shape),
    "BroadcastTo": _broadcast,
    "ExpandDims": _expand_dims,
    "GatherNd": _gather_nd,
    "GatherV2": _gather,
    "L2Loss": _squares,
    "OneHot": _one_hot,
    "Range": _numbered,
    "Reshape": _reshape,
    "Roll": _along(2),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
    "TensorListReserve": _numbered,
    "TensorListFromTensor": _listed(-1),
    "TensorListGetItem": _listed(0),
    "TensorListSetItem": _listed(0),
    "TensorListStack": _listed(1),
    "StridedSliceGrad": _slice_gradient,
    "Tile": _tile,
    "Transpose": _transpose,
}

# Rows lie along the first axis of all their inputs and outputs, of whatever ranks.
FIRST_AXIS = dict.fromkeys(("ImageProjectiveTransformV3", "SparseSoftmaxCrossEntropyWithLogits"), 0)
