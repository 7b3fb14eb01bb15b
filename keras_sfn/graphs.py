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

_UNSEEDED = frozenset(
    {
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


def refuse_unseeded_randomness(ops: frozenset[str]) -> None:
    """Raises where a loss draws random numbers that differ from one evaluation to the next.

    Raises:
        ValueError: The loss uses TensorFlow's stateful random ops.
    """
    found = sorted(ops & _UNSEEDED)
    if found:
        raise ValueError(
            "The loss must be the same function at every evaluation within a step. It draws "
            f"from TensorFlow's stateful random ops: {', '.join(found)}. Use `keras.random` with a "
            "`keras.random.SeedGenerator`, which is frozen during a step."
        )
