"""What a traced loss consists of: decides how its products are taken and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from keras_sfn.backend import second_derivatives

CONTROL_FLOW = frozenset({"If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase"})

CONVOLUTIONS = frozenset(
    {
        "Conv",
        "Conv2D",
        "Conv3D",
        "Conv2DBackpropInput",
        "Conv3DBackpropInputV2",
        "DepthwiseConv2dNative",
    }
)

# Ops that give or leave something else behind at every evaluation. Variables of Keras never come
# here: a frozen objective records their assignments.
_UNREPEATABLE = frozenset(
    {
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "AssignVariableOp",
        "IteratorGetNext",
        "IteratorGetNextSync",
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomGamma",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "TruncatedNormal",
    }
)

UNREPEATABLE = (
    "The loss must be the same function at every evaluation within a step, and change nothing. "
    "{found}. Draw random numbers by `keras.random` with a `keras.random.SeedGenerator`, keep "
    "state in `keras.Variable`s (both are frozen during a step), and take the batch outside the "
    "loss."
)

# `tf.GradientTape` names the ops of a gradient like this.
GRADIENT_SCOPE = "gradient_tape"


def trace(function: Callable[..., Any], *signature: tf.TensorSpec) -> Any:
    """Traces `function` in a graph of its own, without autograph; returns the graph."""
    return concrete(function, *signature).graph


def concrete(function: Callable[..., Any], *signature: tf.TensorSpec) -> Any:
    """Traces `function` without autograph; returns the `tf.types.experimental.ConcreteFunction`."""
    return tf.function(function, autograph=False).get_concrete_function(*signature)


def once(function: Callable[..., Any], *signature: tf.TensorSpec) -> Callable[..., Any]:
    """Returns `function` traced once for all its calls in the graph being built, loops included.

    In eager code it is returned as it is.

    Args:
        function: Of tensors. What it captures belongs to the graph being built.
        signature: Of its arguments.
    """
    return function if tf.executing_eagerly() else concrete(function, *signature)


def op_types(graph: Any) -> frozenset[str]:
    """Returns the types of all ops of a graph, without those of its gradient.

    Ops inside nested functions (branches, loop bodies, inner `tf.function`s) are included, those
    that `second_derivatives` puts in the place of others are not.
    """
    nodes = _nodes(graph.as_graph_def())
    return frozenset(node.op for node in nodes if GRADIENT_SCOPE not in node.name)


def _nodes(definition: Any) -> Iterator[Any]:
    for function in (definition.node, *(f.node_def for f in definition.library.function)):
        yield from (node for node in function if second_derivatives.SCOPE not in node.name)


def refuse_unrepeatable(ops: frozenset[str]) -> None:
    """Raises where a loss differs from one evaluation to the next, or changes a variable.

    Raises:
        ValueError: The loss draws from TensorFlow's stateful random ops, reads a data iterator or
            assigns to a `tf.Variable`.
    """
    found = sorted(ops & _UNREPEATABLE)
    if found:
        raise ValueError(UNREPEATABLE.format(found=f"It holds the ops {', '.join(found)}"))


def has_own_gradients(graph: Any) -> bool:
    """Whether an op of a traced loss has a gradient that is not TensorFlow's for its type.

    So it is with `tf.custom_gradient`, which TensorFlow and Keras use themselves too.
    """
    nodes = _nodes(graph.as_graph_def())
    return any(
        "_gradient_op_type" in node.attr and GRADIENT_SCOPE not in node.name for node in nodes
    )


def has_forward_mode(graph: Any) -> bool:
    """Whether a traced loss uses `tf.autodiff.ForwardAccumulator`, a traced function an op."""
    functions = graph.as_graph_def().library.function
    return any("_jvp_" in function.signature.name for function in functions)


def calls_stop_gradient(graph: Any) -> bool:
    """Whether a traced loss stops gradients, at its top level."""
    return any(second_derivatives.CONSTANT in op.name for op in graph.get_operations())


def layer_name(op_name: str) -> str:
    """Returns the part of an op's name that Keras made of the layer's: `model/layer`."""
    scopes = [part for part in op_name.split("/")[:-1] if part != GRADIENT_SCOPE]
    return "/".join(scopes[:2]) or op_name


def path(graph: Any, inputs: Any, outputs: Any) -> list[Any]:
    """Returns the ops that depend on `inputs` and that `outputs` depend on, in graph order."""
    operations = graph.get_operations()
    reached = {tensor.op.name for tensor in outputs}
    for op in reversed(operations):
        if op.name in reached:
            reached.update(tensor.op.name for tensor in op.inputs)
    depends = {tensor.op.name for tensor in inputs}
    for op in operations:
        if any(tensor.op.name in depends for tensor in op.inputs):
            depends.add(op.name)
    both = reached & depends
    return [op for op in operations if op.name in both]


def nested_nodes(graph: Any, op: Any) -> list[Any]:
    """Returns the nodes of the functions that an op calls (branches, loop bodies), and theirs."""
    if not _called(op.node_def):
        return []
    functions = {f.signature.name: f.node_def for f in graph.as_graph_def().library.function}
    found: dict[str, list[Any]] = {}
    pending = [op.node_def]
    while pending:
        for name in _called(pending.pop()):
            if name not in found and name in functions:
                found[name] = list(functions[name])
                pending.extend(found[name])
    return [node for nodes in found.values() for node in nodes]


def _called(node: Any) -> list[str]:
    names = []
    for attribute in node.attr.values():
        names.extend([attribute.func.name, *(f.name for f in attribute.list.func)])
    return [name for name in names if name]
