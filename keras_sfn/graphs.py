"""What a traced loss consists of: decides how its products are taken and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

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


def op_types(function: Callable[..., Any], *arguments: Any) -> frozenset[str]:
    """Traces `function` in a graph of its own and returns the types of all its ops.

    Ops inside nested functions (branches, loop bodies, inner `tf.function`s) are included.
    """
    concrete = tf.function(function, autograph=False).get_concrete_function(*arguments)
    definition = concrete.graph.as_graph_def()
    nodes = list(definition.node)
    for nested in definition.library.function:
        nodes.extend(nested.node_def)
    return frozenset(node.op for node in nodes)


def refuse_unrepeatable(ops: frozenset[str]) -> None:
    """Raises where a loss differs from one evaluation to the next, or changes a variable.

    Raises:
        ValueError: The loss draws from TensorFlow's stateful random ops, reads a data iterator or
            assigns to a `tf.Variable`.
    """
    found = sorted(ops & _UNREPEATABLE)
    if found:
        raise ValueError(UNREPEATABLE.format(found=f"It holds the ops {', '.join(found)}"))
