"""Whether a part of the rows of a batch can stand for all of them, as far as a traced loss tells.

The tensors of the graph are followed from the batch to the loss, each with the axis along which
its rows lie. An op that lets rows meet ends that axis:

* A mean over rows is one of a part too, but for noise: the loss itself, a batch normalisation.
* A sum over rows grows with their number. That is counted as a power of this number, its degree:
  1 for a sum and for the number itself, 0 for a mean and for the ratio of two sums. A loss of any
  degree but 0 is another function for a part of the rows.
* Anything else has no meaning for a part: the product of a matrix of rows with that of others (a
  contrastive loss), a softmax, a sort or a maximum over the batch, rows that are split or gathered.

Ops that are not known here, and loops, are taken to keep the axis where their shapes allow that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_sfn.backend import graphs
from keras_sfn.objective import row_rules, row_states

_ALWAYS_MEET = frozenset(
    {"BatchToSpaceND", "DynamicPartition", "DynamicStitch", "RandomShuffle"}
    | {"SegmentMax", "SegmentMean", "SegmentSum", "SpaceToBatchND", "SparseSegmentSum", "Unique"}
    | {"TensorScatterAdd", "TensorScatterUpdate", "ScatterNd", "UnsortedSegmentMax", "Where"}
    | {"UnsortedSegmentMin", "UnsortedSegmentProd", "UnsortedSegmentSum"}
)

_LINEAR = frozenset({"Cast", "Identity", "Neg", "Reshape", "Squeeze", "StopGradient", "Transpose"})
_SUMS = frozenset(
    {"Add", "AddN", "AddV2", "BiasAdd", "ConcatV2", "Maximum", "Minimum", "Pack", "Sub"}
)
_SUMS |= {"Select", "SelectV2", "SquaredDifference"}
_FACTORS = frozenset({"BatchMatMulV2", "BatchMatMulV3", "Einsum", "MatMul", "Mul", "MulNoNan"})
_QUOTIENTS = frozenset({"Div", "DivNoNan", "FloorDiv", "RealDiv", "Xdivy"})


def meeting(graph: Any, data: Sequence[tf.Tensor], loss: tf.Tensor) -> str | None:
    """Returns why no part of the rows can stand for all of them, or None where one can.

    Args:
        graph: That of the loss.
        data: Tensors of it with the rows along the first axis.
        loss: Scalar of it.
    """
    walk = _Walk(data)
    for op in graphs.path(graph, data, [loss]):
        try:
            walk.pass_op(op)
        except row_states.RowsMeetError as met:
            return f"rows meet in {met} of {graphs.layer_name(op.name)}"
    degree = walk.state_of(loss).degree if walk.knows(loss) else 0.0
    return None if degree == 0 else "the loss is no mean over rows"


class _Walk:
    """The tensors seen so far that depend on the rows.

    Args:
        data: Where it begins.

    Attributes:
        count: Of the rows, where that is known.
    """

    def __init__(self, data: Sequence[tf.Tensor]) -> None:
        self._states = {
            tensor.name: row_states.Rows(0) for tensor in data if tensor.shape.rank != 0
        }
        counts = {tensor.shape[0] for tensor in data if tensor.shape.rank}
        self.count = counts.pop() if len(counts) == 1 else None

    def knows(self, tensor: tf.Tensor) -> bool:
        """Whether a tensor depends on the rows."""
        return tensor.name in self._states

    def state_of(self, tensor: tf.Tensor) -> row_states.Rows:
        """Returns how a tensor depends on the rows."""
        return self._states[tensor.name]

    def pass_op(self, op: Any) -> None:
        """Follows the rows through an op.

        Raises:
            row_states.RowsMeetError: They meet there.
        """
        rule = row_rules.RULES.get(op.type)
        known = [self._states.get(tensor.name) for tensor in op.inputs]
        if rule is None and op.type != "Cast" and not _is_count(op.outputs[:1]):
            # Numbers of rows beside values are shapes.
            for index, (tensor, state) in enumerate(zip(op.inputs, known, strict=True)):
                if state is not None and state.axis is None and _is_count([tensor]):
                    known[index] = None
        if all(state is None for state in known):
            return
        if op.type in _ALWAYS_MEET:
            raise row_states.RowsMeetError(op.type)
        if op.type == "IdentityN":
            states = known
        else:
            states = [rule(self, op, known)] if rule else self.by_shape(op, known)
            states *= len(op.outputs) if len(states) == 1 else 1
        for output, state in zip(op.outputs, states, strict=True):
            if state is None:
                continue
            rank = None if output.dtype == tf.variant else output.shape.rank
            if state.axis is not None and rank is not None and state.axis >= rank:
                raise row_states.RowsMeetError(op.type)
            self._states[output.name] = state

    def degree(self, op: Any, known: Sequence[row_states.Rows | None]) -> float:
        """Returns the degree of what an op makes."""
        degrees = [0.0 if state is None else state.degree for state in known]
        if op.type in _FACTORS:
            return self._normed(op, sum(degrees))
        if op.type in _QUOTIENTS:
            degree = degrees[0] - degrees[1]
            return self._normed(op, degree) if degrees[1] == 0 else degree
        if op.type == "Sqrt":
            return degrees[0] / 2
        if op.type in ("Pow", "Square"):
            return degrees[0] * (2 if op.type == "Square" else float(row_states.static(op, 1)))
        if op.type in _LINEAR or not any(degrees):
            return max(degrees, key=abs)
        if op.type in _SUMS or not op.outputs[0].dtype.is_floating:
            # A constant beside a sum, as small as an epsilon, has no part in it.
            return max(degree for degree, state in zip(degrees, known, strict=True) if state)
        raise row_states.RowsMeetError(op.type)

    def _normed(self, op: Any, degree: float) -> float:
        """Returns the degree after a factor that is a constant.

        Where the number of rows is known, what divides by it is a plain number in the graph.
        """
        if degree < 1 or self.count is None or self.count < 2:
            return degree
        for tensor in op.inputs:
            value = row_states.constant(tensor)
            if value is not None and value.size == 1 and value != 0:
                number = float(abs(value.item()))
                times = (number if op.type in _QUOTIENTS else 1 / number) / self.count
                if round(times) >= 1 and abs(times - round(times)) < 1e-5 * times:
                    return degree - 1
        return degree

    def by_shape(
        self, op: Any, known: Sequence[row_states.Rows | None]
    ) -> list[row_states.Rows | None]:
        """Follows an op that works by element, with broadcasting, or is taken to do so."""
        if op.type in graphs.CONTROL_FLOW or op.type.endswith("PartitionedCall"):
            return [self._of_loop(output) for output in op.outputs]
        lengths = [
            (tensor.shape.rank - state.axis, tensor.shape[state.axis])
            for tensor, state in zip(op.inputs, known, strict=True)
            if state is not None and state.axis is not None and tensor.shape.rank is not None
        ]
        degree = self.degree(op, known)
        if not lengths:
            axis = 0 if any(state and state.axis is not None for state in known) else None
            return [row_states.Rows(axis, degree)]
        if len({from_right for from_right, _ in lengths}) > 1:
            if op.type not in row_rules.FIRST_AXIS:
                raise row_states.RowsMeetError(op.type)
            return [row_states.Rows(0, degree)]
        states: list[row_states.Rows | None] = []
        for output in op.outputs:
            axis = row_rules.FIRST_AXIS.get(op.type)
            if output.shape.rank is not None and axis is None:
                axis = output.shape.rank - lengths[0][0]
            if axis is None or axis < 0:
                raise row_states.RowsMeetError(op.type)
            if output.shape.rank is not None and not self._may_be_rows(output.shape[axis], lengths):
                raise row_states.RowsMeetError(op.type)
            states.append(row_states.Rows(axis, degree))
        return states

    def _may_be_rows(self, length: int | None, lengths: Sequence[tuple[int, int | None]]) -> bool:
        known = {length_of for _, length_of in lengths if length_of is not None}
        return length is None or not known or length in known

    def _of_loop(self, output: tf.Tensor) -> row_states.Rows:
        """Returns the state of a loop's output, by its shape; a list of tensors counts as one."""
        for axis, length in enumerate(output.shape or ()):
            if length is None or length == self.count:
                return row_states.Rows(axis)
        return row_states.Rows(0 if output.dtype == tf.variant else None)


def _is_count(tensors: Sequence[tf.Tensor]) -> bool:
    return any(tensor.dtype.is_integer for tensor in tensors)
