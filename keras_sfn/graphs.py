"""What a traced loss consists of: decides how its products are taken and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_sfn import second_derivatives

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

# Differentiable once, not twice. The gradient of bilinear resizing is registered as not
# differentiable, so that its part is dropped silently; that of CTC fails when the step runs.
_ONCE_DIFFERENTIABLE = {
    "ResizeBilinear": "resize by `tf.image.resize` or a Keras layer, which `keras_sfn` makes exact",
    "CTCLoss": "train models with a CTC loss by a first-order optimizer",
}

UNREPEATABLE = (
    "The loss must be the same function at every evaluation within a step, and change nothing. "
    "{found}. Draw random numbers by `keras.random` with a `keras.random.SeedGenerator`, keep "
    "state in `keras.Variable`s (both are frozen during a step), and take the batch outside the "
    "loss."
)


def examine(loss_fn: Callable[..., tf.Tensor], *arguments: Any) -> frozenset[str]:
    """Traces a loss once on its own, refuses what has no right Hessian, returns its op types.

    Raises:
        ValueError: See `refuse_unrepeatable`.
        NotImplementedError: See `refuse_wrong_curvature`.
    """
    ops = op_types(loss_fn, *arguments)
    refuse_unrepeatable(ops)
    refuse_wrong_curvature(ops)
    return ops


def op_types(function: Callable[..., Any], *arguments: Any) -> frozenset[str]:
    """Traces `function` in a graph of its own and returns the types of all its ops.

    Ops inside nested functions (branches, loop bodies, inner `tf.function`s) are included, those
    that `second_derivatives` puts in the place of others are not.
    """
    concrete = tf.function(function, autograph=False).get_concrete_function(*arguments)
    definition = concrete.graph.as_graph_def()
    nodes = list(definition.node)
    for nested in definition.library.function:
        nodes.extend(nested.node_def)
    return frozenset(_type(node) for node in nodes if second_derivatives.SCOPE not in node.name)


def _type(node: Any) -> str:
    # The CTC loss is a function of small ops with a gradient of its own: its name gives it away.
    return "CTCLoss" if "ctc_loss" in node.name else node.op


def refuse_unrepeatable(ops: frozenset[str]) -> None:
    """Raises where a loss differs from one evaluation to the next, or changes a variable.

    Raises:
        ValueError: The loss draws from TensorFlow's stateful random ops, reads a data iterator or
            assigns to a `tf.Variable`.
    """
    found = sorted(ops & _UNREPEATABLE)
    if found:
        raise ValueError(UNREPEATABLE.format(found=f"It holds the ops {', '.join(found)}"))


def refuse_wrong_curvature(ops: frozenset[str]) -> None:
    """Raises where TensorFlow has no second derivative, or would drop it without a word.

    Raises:
        NotImplementedError: The loss holds such an op.
    """
    for op in sorted(ops & frozenset(_ONCE_DIFFERENTIABLE)):
        raise NotImplementedError(
            f"The loss has no right second derivative in TensorFlow through {op}. Instead, "
            f"{_ONCE_DIFFERENTIABLE[op]}."
        )
