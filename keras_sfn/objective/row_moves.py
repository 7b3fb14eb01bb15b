"""What ops that move, join and part axes do with the axis of the rows; see `row_axes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_sfn.objective import row_states


@row_states.of_first
def reshape(walk: row_states.Walk, op: Any, axis: int, degree: float) -> row_states.Rows:
    """Follows a change of shape: where as much lies before the rows as before."""
    tensor, output = op.inputs[0], op.outputs[0]
    like = row_states.like(walk, op.inputs[1])
    if like is not None and like.axis is not None:
        return row_states.Rows(like.axis, degree)
    if tensor.shape.rank is None or output.shape.rank is None:
        raise row_states.RowsMeetError(op.type)
    # The rows stay apart where as much lies before their axis as before.
    before = tensor.shape[:axis].num_elements()
    for place, new in enumerate(output.shape):
        if before is None or output.shape[:place].num_elements() != before:
            continue
        if new is None or (walk.count is not None and new % walk.count == 0):
            return row_states.Rows(place, degree)
    raise row_states.RowsMeetError(op.type)


@row_states.of_first
def transpose(_: row_states.Walk, op: Any, axis: int, degree: float) -> row_states.Rows:
    """Follows axes in another order."""
    order = row_states.axes_of(op, 1, op.inputs[0].shape.rank)
    return row_states.Rows(order.index(axis), degree)


@row_states.of_first
def expand_dims(_: row_states.Walk, op: Any, axis: int, degree: float) -> row_states.Rows:
    """Follows a new axis."""
    [new] = row_states.axes_of(op, 1, op.outputs[0].shape.rank)
    return row_states.Rows(axis + (new <= axis), degree)


@row_states.of_first
def squeeze(_: row_states.Walk, op: Any, axis: int, degree: float) -> row_states.Rows:
    """Follows axes of length one that go."""
    shape = op.inputs[0].shape
    gone = [place % shape.rank for place in op.get_attr("squeeze_dims")]
    if not gone:
        gone = [place for place, length in enumerate(shape) if length == 1]
    return row_states.Rows(axis - sum(place < axis for place in gone), degree)


def join(
    walk: row_states.Walk, op: Any, known: Sequence[row_states.Rows | None]
) -> row_states.Rows | None:
    """Follows tensors that are put side by side: not along the rows."""
    axes = {state.axis for state in known if state is not None and state.axis is not None}
    degree = walk.degree(op, known)
    if not axes:
        return row_states.Rows(None, degree)
    if len(axes) > 1:
        raise row_states.RowsMeetError(op.type)
    [axis] = axes
    if op.type == "Pack":
        return row_states.Rows(
            axis + (op.get_attr("axis") % op.outputs[0].shape.rank <= axis), degree
        )
    if row_states.axes_of(op, len(op.inputs) - 1, op.inputs[0].shape.rank) == [axis]:
        raise row_states.RowsMeetError(op.type)
    return row_states.Rows(axis, degree)


def split(
    _: row_states.Walk, op: Any, known: Sequence[row_states.Rows | None]
) -> row_states.Rows | None:
    """Follows parts along an axis: not that of the rows."""
    at = {"Split": 1, "SplitV": 0, "Unpack": 0}[op.type]
    state, rank = known[at], op.inputs[at].shape.rank
    if state is None or state.axis is None:
        return state
    if op.type == "Unpack":
        axis = op.get_attr("axis") % rank
    else:
        [axis] = row_states.axes_of(op, 0 if op.type == "Split" else 2, rank)
    if axis == state.axis:
        raise row_states.RowsMeetError(op.type)
    return row_states.Rows(state.axis - (op.type == "Unpack" and axis < state.axis), state.degree)


def along(index: int) -> row_states.Rule:
    """Returns the rule of ops that work along the axes of an input."""

    @row_states.of_first
    def rule(walk: row_states.Walk, op: Any, axis: int, degree: float) -> row_states.Rows:
        if axis in row_states.axes_of(op, index, op.inputs[0].shape.rank):
            raise row_states.RowsMeetError(op.type)
        return row_states.Rows(axis, walk.degree(op, [row_states.Rows(axis, degree)]))

    return rule


def along_last(count: int) -> row_states.Rule:
    """Returns the rule of ops that work along the last axes."""

    def rule(
        walk: row_states.Walk, op: Any, known: Sequence[row_states.Rows | None]
    ) -> row_states.Rows | None:
        states = [state for state in known if state is not None and state.axis is not None]
        rank = op.inputs[0].shape.rank
        if rank is None or any(state.axis >= rank - count for state in states):
            raise row_states.RowsMeetError(op.type)
        return row_states.Rows(states[0].axis if states else None, walk.degree(op, known))

    return rule


@row_states.of_first
def tile(_: row_states.Walk, op: Any, axis: int, degree: float) -> row_states.Rows:
    """Follows repetitions along axes: not that of the rows."""
    if row_states.entry(op, 1, axis) != 1:
        raise row_states.RowsMeetError(op.type)
    return row_states.Rows(axis, degree)


@row_states.of_first
def pad(_: row_states.Walk, op: Any, axis: int, degree: float) -> row_states.Rows:
    """Follows what is put around a tensor: not along the rows."""
    widths = row_states.constant(op.inputs[1])
    before, after = op.inputs[0].shape[axis], op.outputs[0].shape[axis]
    # In a derivative within the loss the widths are worked out from shapes: then by shape.
    if before != after or (widths is not None and widths[axis].any()):
        raise row_states.RowsMeetError(op.type)
    return row_states.Rows(axis, degree)


def slice_gradient(
    walk: row_states.Walk, op: Any, known: Sequence[row_states.Rows | None]
) -> row_states.Rows | None:
    """Follows the derivative of a slice."""
    state = known[4]
    if state is None:
        return None
    like = row_states.like(walk, op.inputs[0])
    if like is None or like.axis is None:
        return walk.by_shape(op, known)[0]
    return row_states.Rows(like.axis, state.degree)


@row_states.of_first
def part(walk: row_states.Walk, op: Any, axis: int, degree: float) -> row_states.Rows:
    """Follows a slice: all of the rows."""
    state = row_states.Rows(axis, degree)
    before, after = op.inputs[0].shape[axis], op.outputs[0].shape[axis]
    whole = before == after if before is not None else row_states.like(walk, op.inputs[2]) == state
    if not whole and (before != after or row_states.entry(op, 1, axis) != 0):
        raise row_states.RowsMeetError(op.type)
    return state


def strided_slice(
    walk: row_states.Walk, op: Any, known: Sequence[row_states.Rows | None]
) -> row_states.Rows | None:
    """Follows a slice with strides, new axes and axes that go."""
    state, tensor = known[0], op.inputs[0]
    if state is None:
        return None
    if state.axis is None:
        return _of_shape(walk, op, state) if tensor.op.type == "Shape" else state
    masks = [op.get_attr(f"{name}_mask") for name in ("ellipsis", "new_axis", "shrink_axis")]
    whole = op.get_attr("begin_mask") & op.get_attr("end_mask")
    length, rank = op.inputs[1].shape[0], tensor.shape.rank
    if length is None or rank is None:
        raise row_states.RowsMeetError(op.type)
    taken = sum(not masks[1] >> index & 1 for index in range(length))
    source = made = 0
    for index in range(length):
        ellipsis, new, shrink = (mask >> index & 1 for mask in masks)
        if ellipsis:
            width = rank - taken + 1
            if source <= state.axis < source + width:
                return row_states.Rows(made + state.axis - source, state.degree)
            source, made = source + width, made + width
        elif new:
            made += 1
        elif source == state.axis:
            strides = row_states.constant(op.inputs[3])
            if shrink or not whole >> index & 1 or strides is None or strides[index] != 1:
                raise row_states.RowsMeetError(op.type)
            return row_states.Rows(made, state.degree)
        else:
            source, made = source + 1, made + (not shrink)
    return row_states.Rows(made + state.axis - source, state.degree)


def _of_shape(walk: row_states.Walk, op: Any, state: row_states.Rows) -> row_states.Rows | None:
    """Follows a part of a shape: whether the number of rows is in it."""
    shaped = walk.state_of(op.inputs[0].op.inputs[0])
    begin, end = row_states.static(op, 1)[0], row_states.static(op, 2)[0]
    rank = op.inputs[0].shape[0]
    if shaped.axis is None or rank is None:
        return state
    begin = 0 if op.get_attr("begin_mask") & 1 else begin % rank
    end = begin + 1 if op.get_attr("shrink_axis_mask") & 1 else end
    end = rank if op.get_attr("end_mask") & 1 else end + rank * (end < 0)
    return state if begin <= shaped.axis < end else None


def gather(
    _: row_states.Walk, op: Any, known: Sequence[row_states.Rows | None]
) -> row_states.Rows | None:
    """Follows entries taken by their numbers: not along the rows."""
    values, indices = known[:2]
    [axis] = row_states.axes_of(op, 2, op.inputs[0].shape.rank)
    shared = op.get_attr("batch_dims")
    if values is None or values.axis is None:
        if indices is None or indices.axis is None:
            return values or indices
        return row_states.Rows(axis + indices.axis - shared)
    if indices is not None and indices.axis is not None:
        if not values.axis == indices.axis < shared:
            raise row_states.RowsMeetError(op.type)
        return values
    if axis == values.axis:
        raise row_states.RowsMeetError(op.type)
    after = values.axis > axis
    return row_states.Rows(
        values.axis + after * (op.inputs[1].shape.rank - 1 - shared), values.degree
    )


def gather_nd(
    _: row_states.Walk, op: Any, known: Sequence[row_states.Rows | None]
) -> row_states.Rows | None:
    """Follows entries taken by several numbers each, which may have rows."""
    values, indices = known[:2]
    if values is not None and values.axis is not None:
        raise row_states.RowsMeetError(op.type)
    return indices


def filled(
    _: row_states.Walk, op: Any, known: Sequence[row_states.Rows | None]
) -> row_states.Rows | None:
    """Tells of what is made for so many rows."""
    for axis, length in enumerate(op.outputs[0].shape or ()):
        if length is None:
            return row_states.Rows(axis)
    return None


def broadcast(
    _: row_states.Walk, op: Any, known: Sequence[row_states.Rows | None]
) -> row_states.Rows | None:
    """Follows repetitions to a shape."""
    state, output = known[0], op.outputs[0]
    if state is None:
        return filled(_, op, known)
    if state.axis is None:
        return state
    like = row_states.like(_, op.inputs[1])
    if like is not None and like.axis is not None:
        return row_states.Rows(like.axis, state.degree)
    if output.shape.rank is None or op.inputs[0].shape.rank is None:
        raise row_states.RowsMeetError(op.type)
    return row_states.Rows(state.axis + output.shape.rank - op.inputs[0].shape.rank, state.degree)
