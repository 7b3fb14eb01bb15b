"""Where the curvature of a loss is taken: the tensors behind which it has no parameters any more.

A loss f(x) = l(z(x)) has the Gauss-Newton matrix J' H_z J, with J the Jacobian of z and H_z the
Hessian of l in z. Any z will do behind which l depends on no parameter itself. For a network that
is the output of its last layer; but Keras's cross-entropies look past a softmax to its logits,
residuals of a differential equation are made of derivatives of the network, and `add_loss` takes
the values of hidden layers. So z is found in the traced graph of the loss:

1. Walking back from the loss, a tensor that an op makes of rows and of a parameter (the product
   with a kernel, the sum with a bias) is a candidate: behind it there are no parameters.
2. An output of the model comes before that, where the loss bends behind it: l is convex there for
   the losses of Keras, and need not be in what the activation is made from.
3. From a candidate on, linear ops are followed towards the loss: a residual is a sum of
   derivatives, and H_z is diagonal in the residual but not in these. So are activations behind
   which the loss bends, as in 2.

Parameters on which the loss depends without rows (regularisation) have no part in z.

Reference: Schraudolph, Fast curvature matrix-vector products for second-order gradient descent,
Neural Computation 14 (2002), for the choice of z so that l is convex.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

# Ops that are linear in each floating input, and bend only where several of them vary.
_LINEAR = frozenset(
    {
        "AddN",
        "AddV2",
        "Add",
        "BiasAdd",
        "BroadcastTo",
        "Cast",
        "ConcatV2",
        "Cumsum",
        "ExpandDims",
        "Fill",
        "GatherNd",
        "GatherV2",
        "Identity",
        "IdentityN",
        "Mean",
        "Neg",
        "Pack",
        "Pad",
        "PadV2",
        "Reshape",
        "ReverseV2",
        "Roll",
        "Slice",
        "Split",
        "SplitV",
        "Squeeze",
        "StridedSlice",
        "Sub",
        "Sum",
        "Tile",
        "Transpose",
        "Unpack",
        "ZerosLike",
        "MatrixDiagPartV3",
        "MatrixTranspose",
    }
)

# Linear where one factor alone varies.
_PRODUCTS = frozenset(
    {"BatchMatMulV2", "BatchMatMulV3", "Einsum", "MatMul", "Mul", "MulNoNan", "XlaDot"}
)

# Linear in their first input.
_QUOTIENTS = frozenset({"DivNoNan", "RealDiv"})

# Linear in all inputs but the first, which is no number.
_CHOICES = frozenset({"Select", "SelectV2"})


# The last of a network, where the loss bends behind them.
_ACTIVATIONS = frozenset(
    {
        "Elu",
        "Erf",
        "LeakyRelu",
        "Relu",
        "Relu6",
        "Selu",
        "Sigmoid",
        "Softmax",
        "Softplus",
        "Softsign",
        "Tanh",
    }
)

# Where one of these makes a tensor of the shape of a parameter, that is still a parameter: a mask,
# a scale, and with a constant matrix a rotation.
_BY_ELEMENT = frozenset({"Add", "AddV2", "DivNoNan", "Mul", "MulNoNan", "RealDiv", "Sub"})
_ROTATIONS = frozenset({"BatchMatMulV2", "BatchMatMulV3", "MatMul"})

# They meet rows by their indices.
_LOOKUPS = frozenset({"GatherNd", "GatherV2", "ResourceGather"})


class _Depends(enum.IntEnum):
    """On what a tensor of the graph depends."""

    NOTHING = 0  # rows, constants
    PARAMETERS = 1  # parameters alone: kernels, and what is made of them
    BOTH = 2


class _Graph:
    """The graph of a loss, with what its tensors depend on.

    Args:
        parameters: Tensors of the graph.
        loss: Scalar tensor of it.
    """

    def __init__(self, parameters: Sequence[tf.Tensor], loss: tf.Tensor) -> None:
        self.loss = loss
        # In the order in which the graph was made: inputs of an op come before it.
        self.operations = loss.graph.get_operations()
        self._depends = dict.fromkeys(
            (parameter.name for parameter in parameters), _Depends.PARAMETERS
        )
        # Ops by which parameters meet rows; tensors that the graph holds as numbers.
        self._entries: set[str] = set()
        self._constants: set[str] = set()
        for op in self.operations:
            if not any(output.name in self._depends for output in op.outputs):
                self._walk(op)
        # Tensors on which the loss depends and behind which it bends.
        self.bent: set[str] = set()
        reached = {loss.name}
        for op in reversed(self.operations):
            outputs = {output.name for output in op.outputs} & reached
            if outputs:
                names = {tensor.name for tensor in op.inputs if self.both(tensor)}
                reached |= names
                if outputs & self.bent or not self.is_linear(op):
                    self.bent |= names

    def both(self, tensor: tf.Tensor) -> bool:
        """Whether a tensor depends on parameters and has rows."""
        return self._depends.get(tensor.name) is _Depends.BOTH

    def is_entry(self, op: Any) -> bool:
        """Whether parameters meet rows in an op."""
        return op.name in self._entries

    def is_linear(self, op: Any) -> bool:
        """Whether an op is linear in all inputs that depend on parameters, taken together."""
        varying = [self._depends.get(tensor.name, _Depends.NOTHING) > 0 for tensor in op.inputs]
        if op.type in _PRODUCTS:
            return sum(varying) == 1
        if op.type in _QUOTIENTS:
            return not varying[1]
        return op.type in _LINEAR or op.type in _CHOICES

    def passes(self, op: Any) -> bool:
        """Whether z is taken behind an op rather than before it."""
        if op.type in _ACTIVATIONS:
            return op.outputs[0].name in self.bent
        return self.is_linear(op)

    def _walk(self, op: Any) -> None:
        inputs = [(self._depends.get(t.name, _Depends.NOTHING), t) for t in op.inputs]
        # Integers and booleans have no derivative.
        kinds = [kind for kind, tensor in inputs if not _is_count(tensor)]
        top = max(kinds, default=_Depends.NOTHING)
        if top is _Depends.NOTHING:
            made_of = [tensor.name for tensor in op.inputs]
            if op.type == "Const" or (made_of and self._constants.issuperset(made_of)):
                self._constants.update(output.name for output in op.outputs)
            return
        if top is _Depends.BOTH:
            # Scalars are terms of the loss, to which regularisation is added.
            rows = any(kind is _Depends.BOTH and t.shape.rank != 0 for kind, t in inputs)
            meets = rows and _Depends.PARAMETERS in kinds
        else:
            meets = self._meets_rows(op, inputs)
            top = _Depends.BOTH if meets else top
        if meets:
            self._entries.add(op.name)
        self._depends.update((output.name, top) for output in op.outputs)

    def _meets_rows(self, op: Any, inputs: Sequence[tuple[_Depends, tf.Tensor]]) -> bool:
        rows = [t for kind, t in inputs if kind is _Depends.NOTHING and t.shape.rank != 0]
        constant = self._constants.issuperset(tensor.name for tensor in rows)
        if op.type in _BY_ELEMENT or (op.type in _ROTATIONS and rows and constant):
            shapes = [t.shape for kind, t in inputs if kind is _Depends.PARAMETERS]
            return not any(shape == op.outputs[0].shape for shape in shapes)
        if op.type in _LOOKUPS:
            return any(_is_count(tensor) for tensor in rows)
        return any(not _is_count(tensor) for tensor in rows)


def find(
    parameters: Sequence[tf.Tensor], loss: tf.Tensor, outputs: Iterable[tf.Tensor] = ()
) -> list[tf.Tensor]:
    """Returns z: floating tensors of the graph of the loss, in graph order; empty if there is none.

    Args:
        parameters: Tensors of the graph that holds `loss`.
        loss: Scalar.
        outputs: What else the loss function returned: predictions.
    """
    graph = _Graph(parameters, loss)
    ends = {output.name for output in outputs if output.name in graph.bent}
    frontier, behind = _frontier(graph, ends)
    straight = _straight(graph, frontier - ends, behind)
    cut = ends & frontier
    for op in behind:
        if not graph.passes(op):
            cut |= {tensor.name for tensor in op.inputs} & straight
    # Where the loss bends nowhere it has no curvature in whatever is taken.
    cut = cut or frontier
    return [tensor for op in graph.operations for tensor in op.outputs if tensor.name in cut]


def floating(outputs: Any) -> list[tf.Tensor]:
    """Returns the outputs of a loss that can be differentiated, flat."""
    return [
        output
        for output in keras.tree.flatten(outputs)
        if tf.is_tensor(output) and output.dtype.is_floating
    ]


def _frontier(graph: _Graph, ends: set[str]) -> tuple[set[str], list[Any]]:
    """Walks back from the loss to `ends` and to entries.

    Returns:
        The names of the tensors where that ends, and the ops behind these, in graph order.
    """
    found, seen, behind, pending = set(), set(), set(), [graph.loss]
    while pending:
        tensor = pending.pop()
        if tensor.name in seen or not graph.both(tensor):
            continue
        seen.add(tensor.name)
        if tensor.name in ends or graph.is_entry(tensor.op):
            found.add(tensor.name)
        else:
            behind.add(tensor.op.name)
            pending.extend(tensor.op.inputs)
    return found, [op for op in graph.operations if op.name in behind]


def _straight(graph: _Graph, frontier: set[str], behind: Sequence[Any]) -> set[str]:
    """Returns the tensors that follow from the frontier by linear ops and activations."""
    straight = set(frontier)
    for op in behind:
        inputs = [tensor.name for tensor in op.inputs if graph.both(tensor)]
        if graph.passes(op) and straight.issuperset(inputs):
            straight.update(output.name for output in op.outputs)
    return straight


def _is_count(tensor: tf.Tensor) -> bool:
    return bool(tensor.dtype.is_integer or tensor.dtype.is_bool)
