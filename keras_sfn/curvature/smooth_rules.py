"""How each op with kinks is continued from the piece on which a point lies.

An op that is linear in pieces becomes y = slope x + offset with the slope and offset it has at the
point; a choice (a comparison, the place of a maximum) becomes the choice made at the point. The
product is `MulNoNan`, since a masked -inf must stay without effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_sfn.backend import second_derivatives

# Of Klambauer et al. 2017, as in TensorFlow's kernel: selu(x) = scale x or scale alpha (e^x - 1).
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

# Constant in pieces though their outputs are floating.
_STEPS = frozenset({"Ceil", "Floor", "FloorDiv", "Rint", "Round", "Sign"})

_COMPARISONS = frozenset({"Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "NotEqual"})

WITHOUT_RULE = frozenset(
    {
        "Dilation2D",
        "FloorMod",
        "FractionalMaxPool",
        "MaxPoolV2",
        "MaxPoolWithArgmax",
        "Mod",
        "SegmentMaxV2",
        "SegmentMinV2",
        "TopKV2",
        "UnsortedSegmentMax",
        "UnsortedSegmentMin",
    }
)


class Held(NamedTuple):
    """A tensor that is computed at the point and fed back elsewhere.

    Attributes:
        name: Name of the tensor that it takes the place of in the edited graph.
        sources: Names of tensors of the original graph.
        compute: Function of their values at the point.
    """

    name: str
    sources: tuple[str, ...]
    compute: Callable[..., tf.Tensor]


class Editor:
    """A copy of a graph in which choices are replaced by placeholders.

    Args:
        graph: The traced function's graph.

    Attributes:
        definition: The edited copy.
        held: What its placeholders stand for.
    """

    def __init__(self, graph: Any) -> None:
        self.definition = graph.as_graph_def()
        self.held: list[Held] = []
        self._nodes = {node.name: node for node in self.definition.node}

    def sources(self) -> list[str]:
        """Returns the names of all tensors that `held` is computed from, each once."""
        return list(dict.fromkeys(name for held in self.held for name in held.sources))

    def hold_choices(self, op: Any) -> bool:
        """Edits the copy of one op; returns whether there was anything to hold."""
        before = len(self.held)
        rule = _RULES.get(op.type)
        if rule is not None and op.inputs[0].dtype.is_floating:
            rule(self, op)
        elif any(tensor.dtype.is_floating for tensor in op.inputs):
            for output in op.outputs:
                chooses = output.dtype.is_integer or output.dtype.is_bool
                constant = op.type in _STEPS or _is_constant(op)
                if constant or (chooses and not op.type.startswith("Shape")):
                    self.held.append(Held(output.name, (output.name,), tf.identity))
        return len(self.held) > before

    def hold(self, tensors: Any, compute: Callable[..., tf.Tensor]) -> str:
        """Returns the name of a placeholder for a function of tensors of the original graph."""
        name = f"held_{len(self.held)}"
        self.held.append(Held(f"{name}:0", tuple(t.name for t in tensors), compute))
        return name

    def input(self, op: Any, index: int) -> str:
        """Returns the name, in the edited graph, of an input of an op."""
        return str(self._nodes[op.name].input[index])

    def set_input(self, op: Any, index: int, name: str) -> None:
        """Connects an input of an op to another tensor."""
        self._nodes[op.name].input[index] = name

    def add(self, op: Any, kind: str, *inputs: str) -> str:
        """Adds an op of one dtype, that of `op`; returns its name."""
        name = f"{op.name}/held_{kind}_{len(self.definition.node)}"
        node = self.definition.node.add(op=kind, name=name, input=inputs)
        node.attr["T"].CopyFrom(self._nodes[op.name].attr["T"])
        return name

    def replace(self, op: Any, kind: str, *inputs: str, keep: tuple[str, ...] = ("T",)) -> None:
        """Makes an op one of another kind, with the attributes `keep` of the old."""
        node = self._nodes[op.name]
        control = [name for name in node.input if name.startswith("^")]
        del node.input[:]
        node.input.extend([*inputs, *control])
        node.op = kind
        for attribute in set(node.attr) - set(keep):
            del node.attr[attribute]


def _is_constant(op: Any) -> bool:
    # Not every `StopGradient`: TensorFlow's functions have some of their own, and where these make
    # a second derivative wrong, holding them would hide it.
    return op.type == "StopGradient" and second_derivatives.CONSTANT in op.name


def _like(mask: tf.Tensor, tensor: tf.Tensor) -> tf.Tensor:
    return tf.cast(mask, tensor.dtype)


def _scale_by(slope: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[Editor, Any], None]:
    """The rule y = slope x for an op of one input."""

    def rule(edit: Editor, op: Any) -> None:
        edit.replace(op, "MulNoNan", edit.input(op, 0), edit.hold(op.inputs[:1], slope))

    return rule


def _leaky_relu(edit: Editor, op: Any) -> None:
    alpha = op.get_attr("alpha")
    _scale_by(lambda x: tf.where(x > 0, tf.ones_like(x), alpha))(edit, op)


def _affine(
    slope: Callable[..., tf.Tensor], offset: Callable[..., tf.Tensor]
) -> Callable[[Editor, Any], None]:
    """The rule y = slope x + offset; both are functions of all inputs."""

    def rule(edit: Editor, op: Any) -> None:
        product = edit.add(op, "MulNoNan", edit.input(op, 0), edit.hold(op.inputs, slope))
        edit.replace(op, "AddV2", product, edit.hold(op.inputs, offset))

    return rule


def _choose(first: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Callable[[Editor, Any], None]:
    """The rule for the larger or smaller of two tensors."""

    def rule(edit: Editor, op: Any) -> None:
        parts = [
            edit.add(op, "MulNoNan", edit.input(op, index), edit.hold(op.inputs, weight))
            for index, weight in enumerate(
                [
                    lambda a, b: _like(first(a, b), a),
                    lambda a, b: _like(~first(a, b), a),
                ]
            )
        ]
        edit.replace(op, "AddV2", *parts)

    return rule


def _reduce(edit: Editor, op: Any) -> None:
    """Max or Min over axes becomes the sum of x over where it is attained, shared among ties."""
    reduce = tf.reduce_max if op.type == "Max" else tf.reduce_min

    def weights(x: tf.Tensor, axes: tf.Tensor) -> tf.Tensor:
        attained = _like(tf.equal(x, reduce(x, axes, keepdims=True)), x)
        return attained / tf.reduce_sum(attained, axes, keepdims=True)

    product = edit.add(op, "MulNoNan", edit.input(op, 0), edit.hold(op.inputs, weights))
    edit.replace(op, "Sum", product, edit.input(op, 1), keep=("T", "Tidx", "keep_dims"))


def _max_pool(edit: Editor, op: Any) -> None:
    """The gradient's gradient picks from its last input at the places of the maxima."""
    x, y = (edit.hold([tensor], tf.identity) for tensor in (op.inputs[0], op.outputs[0]))
    keep = ("T", "ksize", "strides", "padding", "data_format")
    edit.replace(op, f"{op.type}GradGrad", x, y, edit.input(op, 0), keep=keep)


def _exponential_unit(scale: float, alpha: float) -> Callable[[Editor, Any], None]:
    """The rule y = scale x where x > 0, else scale alpha (e^x - 1)."""

    def rule(edit: Editor, op: Any) -> None:
        inside = edit.hold(op.inputs, lambda x: _like(x <= 0, x))
        masked = edit.add(op, "Mul", edit.input(op, 0), inside)
        curved = edit.add(
            op,
            "Mul",
            edit.add(op, "Expm1", masked),
            edit.hold(op.inputs, lambda x: tf.constant(scale * alpha, x.dtype)),
        )
        slope = edit.hold(op.inputs, lambda x: scale * _like(x > 0, x))
        straight = edit.add(op, "Mul", edit.input(op, 0), slope)
        edit.replace(op, "AddV2", straight, curved)

    return rule


def _exponential_unit_gradient(scale: float, alpha: float) -> Callable[[Editor, Any], None]:
    """The rule g scale where y > 0, else g (y + scale alpha), in terms of the output y."""

    def rule(edit: Editor, op: Any) -> None:
        output = op.inputs[1:2]
        inside = edit.hold(output, lambda y: _like(y <= 0, y))
        constant = edit.hold(
            output, lambda y: tf.where(y > 0, tf.constant(scale, y.dtype), scale * alpha)
        )
        curved = edit.add(op, "Mul", edit.input(op, 1), inside)
        slope = edit.add(op, "AddV2", curved, constant)
        edit.replace(op, "Mul", edit.input(op, 0), slope)

    return rule


def _hold_inputs(*indices: int) -> Callable[[Editor, Any], None]:
    """The rule for ops that look at some of their inputs only to choose."""

    def rule(edit: Editor, op: Any) -> None:
        for index in indices:
            edit.set_input(op, index, edit.hold([op.inputs[index]], tf.identity))

    return rule


_RULES: dict[str, Callable[[Editor, Any], None]] = {
    "Abs": _scale_by(tf.sign),
    "ClipByValue": _affine(
        lambda x, low, high: _like((low <= x) & (x <= high), x),
        lambda x, low, high: low * _like(x < low, x) + high * _like(x > high, x),
    ),
    "Elu": _exponential_unit(1.0, 1.0),
    "EluGrad": _exponential_unit_gradient(1.0, 1.0),
    "LeakyRelu": _leaky_relu,
    "LeakyReluGrad": _hold_inputs(1),
    "Max": _reduce,
    "MaxPool": _max_pool,
    "MaxPool3D": _max_pool,
    "MaxPool3DGrad": _hold_inputs(0, 1),
    "MaxPoolGrad": _hold_inputs(0, 1),
    "Maximum": _choose(lambda a, b: a >= b),
    "Min": _reduce,
    "Minimum": _choose(lambda a, b: a <= b),
    "Relu": _scale_by(lambda x: _like(x > 0, x)),
    "Relu6": _affine(
        lambda x: _like((x > 0) & (x < 6), x),
        lambda x: tf.where(x >= 6, tf.constant(6, x.dtype), 0),
    ),
    "Relu6Grad": _hold_inputs(1),
    "ReluGrad": _hold_inputs(1),
    "Selu": _exponential_unit(_SELU_SCALE, _SELU_ALPHA),
    "SeluGrad": _exponential_unit_gradient(_SELU_SCALE, _SELU_ALPHA),
}

ALL_KINKS = WITHOUT_RULE | _COMPARISONS | _STEPS | _RULES.keys()
