"""Refuses losses whose second derivatives TensorFlow would drop without a word, or lacks.

An op that is registered as not differentiable has derivative zero for TensorFlow. Where it computes
a gradient (`ResizeBilinearGrad`), the first derivative is right and a whole term of the second is
missing. So the gradient of the loss is traced once, and every op between the parameters and that
gradient is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import keras
import tensorflow as tf

from keras_sfn.backend import graphs, second_derivatives
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import traced

_IMAGE_LAYER = "put it before the first trained layer, where nothing is differentiated"
_OTHER = "use another op in its place"

# Registered as not differentiable, though their outputs change smoothly with their inputs. The
# others of that kind are constant almost everywhere, so that zero is right.
DROPPED = {
    "CTCBeamSearchDecoder": _OTHER,
    "DrawBoundingBoxes": _IMAGE_LAYER,
    "ExtractGlimpse": _IMAGE_LAYER,
    "FakeQuantWithMinMaxArgsGradient": "train without quantisation",
    "FakeQuantWithMinMaxVarsGradient": "train without quantisation",
    "FakeQuantWithMinMaxVarsPerChannelGradient": "train without quantisation",
    "HSVToRGB": _IMAGE_LAYER,
    "LinSpace": _OTHER,
    "PyFunc": "write the function with `keras.ops`",
    "PyFuncStateless": "write the function with `keras.ops`",
    "RandomCrop": _IMAGE_LAYER,
    "ResizeBilinearGrad": "resize by `tf.image.resize` or a Keras layer, which `keras_sfn` makes "
    "exact",
    "SparseAddGrad": "use dense tensors",
    "SparseConcat": "use dense tensors",
    "XlaVariadicReduce": _OTHER,
}

# No second derivative at all; found here so that the error names the remedy.
_MISSING = {
    "CudnnRNN": "pass `use_cudnn=False` to the recurrent layer",
    "CudnnRNNV2": "pass `use_cudnn=False` to the recurrent layer",
    "CudnnRNNV3": "pass `use_cudnn=False` to the recurrent layer",
    "CTCLoss": "train models with a CTC loss by a first-order optimizer",
}


def refuse(graph: Any, variables: Sequence[keras.Variable]) -> None:
    """Raises unless a loss has right second derivatives.

    Args:
        graph: Of its gradient: the first input is the point.
        variables: The parameters.

    Raises:
        ValueError: See `graphs.refuse_unrepeatable`; or a layer reads trained variables by itself.
        NotImplementedError: An op between the parameters and the gradient has no second derivative
            in TensorFlow.
    """
    graphs.refuse_unrepeatable(graphs.op_types(graph))
    _refuse_own_reads(graph, variables)
    _refuse_wrong_curvature(graph)


def _refuse_own_reads(graph: Any, variables: Sequence[keras.Variable]) -> None:
    """A graph that takes its parameters as input has no need of the variables themselves."""
    captured = {id(outside) for outside, _ in graph.captures}
    for variable in variables:
        copies = getattr(variable.value, "values", (variable.value,))  # One on each replica.
        if any(id(copy.handle) in captured for copy in copies):
            raise ValueError(
                f"The loss reads the variable `{variable.path}` past Keras, so that it cannot be "
                "tried at other values. Received: a layer that holds its weights inside a "
                "function of its own (`TFSMLayer`). Set `trainable=False` on that layer."
            )


def refuse_missing(objective: objective_lib.Objective, error: LookupError) -> NoReturn:
    """Raises the error for an op that TensorFlow found to have no gradient.

    Raises:
        NotImplementedError: Always; names the op and the layer.
    """
    op_type = str(error.args[0]).rsplit(" ", 1)[-1]
    for op in _operations(objective):
        if op_type in {node.op for node in (op.node_def, *graphs.nested_nodes(op.graph, op))}:
            _refuse(op_type, graphs.layer_name(op.name), _OTHER, error)
    _refuse(op_type, "the loss", _OTHER, error)


def _operations(objective: objective_lib.Objective) -> list[Any]:
    """Returns the ops that depend on the parameters, of the gradient if that can be traced."""
    try:
        graph = traced.trace(objective).graph
        assert graph is not None
        return graphs.path(graph, graph.inputs[:1], graph.outputs)
    except LookupError:
        # The loss is made of derivatives itself, and these cannot be differentiated once more.
        pass
    space = objective.space
    try:
        spec = tf.TensorSpec((space.size,), space.dtype)
        return list(graphs.trace(objective.loss, spec).get_operations())
    except LookupError:
        return []


def _refuse(op_type: str, layer: str, remedy: str, cause: Exception | None = None) -> NoReturn:
    raise NotImplementedError(
        f"The loss has no right second derivative in TensorFlow through the op {op_type}, in "
        f"`{layer}`. Instead, {remedy}; or train by a first-order optimizer."
    ) from cause


def _refuse_wrong_curvature(graph: Any) -> None:
    for op in graphs.path(graph, graph.inputs[:1], graph.outputs):
        if second_derivatives.SCOPE in op.name:
            continue
        layer, nested = graphs.layer_name(op.name), graphs.nested_nodes(graph, op)
        for kind in (_kind(op.node_def), *map(_kind, nested)):
            remedy = DROPPED.get(kind) or _MISSING.get(kind)
            if remedy is not None:
                _refuse(kind, layer, remedy)
        if any(second_derivatives.CONSTANT in node.name for node in nested):
            raise NotImplementedError(
                f"The loss calls `stop_gradient` inside a loop or branch, in `{layer}`. What it "
                "stops must stay constant within a step, and cannot be kept from there. Move the "
                "call out of the loop or branch, use another layer, or train by a first-order "
                "optimizer."
            )


def _kind(node: Any) -> str:
    # The CTC loss is a function of small ops with a gradient of its own: its name gives it away.
    return "CTCLoss" if "ctc_loss" in node.name else node.op
