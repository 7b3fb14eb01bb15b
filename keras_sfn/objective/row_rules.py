"""What each op does with the axis of the rows; see `row_axes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_sfn.objective import row_moves, row_products, row_states

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


def _reduction(
    walk: row_states.Walk, op: Any, known: Sequence[row_states.Rows | None]
) -> row_states.Rows | None:
    state, tensor = known[0], op.inputs[0]
    if state is None:
        return None
    if state.axis is None:
        return row_states.Rows(None, state.degree)
    source = op.inputs[1].op
    if source.type == "BroadcastGradientArgs":
        # In a derivative within the loss: over the axes along which the tensor was repeated.
        return row_states.like(walk, source.inputs[op.inputs[1].value_index]) or row_states.Rows(
            None, state.degree + 1
        )
    axes = row_states.axes_of(op, 1, tensor.shape.rank)
    if state.axis not in axes:
        kept = op.type not in ("ArgMax", "ArgMin") and op.get_attr("keep_dims")
        before = 0 if kept else sum(axis < state.axis for axis in axes)
        return row_states.Rows(state.axis - before, state.degree)
    if op.type in ("All", "Any", "Mean"):
        return row_states.Rows(None, state.degree)
    if op.type == "Sum":
        return row_states.Rows(None, state.degree + 1)
    raise row_states.RowsMeetError(op.type)


def _shape(
    _: row_states.Walk, __: Any, known: Sequence[row_states.Rows | None]
) -> row_states.Rows | None:
    state = known[0]
    return None if state is None or state.axis is None else row_states.Rows(None, 1)


@row_states.of_first
def _one_hot(_: row_states.Walk, op: Any, axis: int, __: float) -> row_states.Rows:
    return row_states.Rows(axis + (0 <= op.get_attr("axis") <= axis))


def _numbered(*_: Any) -> row_states.Rows | None:
    return row_states.Rows(0)


def _listed(step: int) -> row_states.Rule:
    """Returns the rule of lists of tensors, whose state is that of an element."""

    def rule(
        _: row_states.Walk, op: Any, known: Sequence[row_states.Rows | None]
    ) -> row_states.Rows | None:
        state = next((state for state in known if state is not None), None)
        if state is None or state.axis is None:
            return state
        if state.axis + step < 0:
            raise row_states.RowsMeetError(op.type)
        return row_states.Rows(state.axis + step, state.degree)

    return rule


def _squares(
    _: row_states.Walk, __: Any, known: Sequence[row_states.Rows | None]
) -> row_states.Rows | None:
    state = known[0]
    return (
        None
        if state is None
        else row_states.Rows(None, 2 * state.degree + (state.axis is not None))
    )


RULES: dict[str, row_states.Rule] = {
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(("BatchMatMulV2", "BatchMatMulV3", "Einsum", "MatMul"), row_products.product),
    **dict.fromkeys(_LAST_AXIS, row_moves.along_last(1)),
    **dict.fromkeys(_LAST_TWO_AXES, row_moves.along_last(2)),
    **dict.fromkeys(_SCANS - {"Roll"}, row_moves.along(1)),
    **dict.fromkeys(_OF_SHAPE, row_moves.filled),
    **dict.fromkeys(("ConcatV2", "Pack"), row_moves.join),
    **dict.fromkeys(("Split", "SplitV", "Unpack"), row_moves.split),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), row_moves.pad),
    **dict.fromkeys(("Shape", "ShapeN", "Size"), _shape),
    "BroadcastTo": row_moves.broadcast,
    "ExpandDims": row_moves.expand_dims,
    "GatherNd": row_moves.gather_nd,
    "GatherV2": row_moves.gather,
    "L2Loss": _squares,
    "OneHot": _one_hot,
    "Range": _numbered,
    "Reshape": row_moves.reshape,
    "Roll": row_moves.along(2),
    "Slice": row_moves.part,
    "Squeeze": row_moves.squeeze,
    "StridedSlice": row_moves.strided_slice,
    "TensorListReserve": _numbered,
    "TensorListFromTensor": _listed(-1),
    "TensorListGetItem": _listed(0),
    "TensorListSetItem": _listed(0),
    "TensorListStack": _listed(1),
    "StridedSliceGrad": row_moves.slice_gradient,
    "Tile": row_moves.tile,
    "Transpose": row_moves.transpose,
}

# Rows lie along the first axis of all their inputs and outputs, of whatever ranks.
FIRST_AXIS = dict.fromkeys(("ImageProjectiveTransformV3", "SparseSoftmaxCrossEntropyWithLogits"), 0)
