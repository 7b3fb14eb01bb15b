"""How much arithmetic a traced function takes, counted in its graph."""

from __future__ import annotations

import math
from typing import Any

# An element that an op writes takes as long as so many operations of a matrix product.
_ELEMENT = 10.0

_MATRIX_PRODUCTS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"})
# In the place of a side of unknown length, where ops are compared with those of known length.
_USUAL_ROWS = 1000

_FREE = frozenset({"Const", "Identity", "Placeholder", "ReadVariableOp", "Reshape", "StopGradient"})
# Convolutions by the position of their kernel among the inputs; None: the kernel is the output.
_KERNELS: dict[str, int | None] = {
    "Conv2D": 1,
    "Conv3D": 1,
    "DepthwiseConv2dNative": 1,
    "Conv2DBackpropInput": 1,
    "Conv3DBackpropInputV2": 1,
    "Conv2DBackpropFilter": None,
    "Conv3DBackpropFilterV2": None,
}


def operations(graph: Any) -> tuple[float, float]:
    """Returns floating-point operations: all that is known, and those for each row.

    An op with a side of unknown length counts to the second, with one in the place of that side.
    Bodies of loops and branches are not looked into.

    Args:
        graph: A `tf.Graph`.
    """
    known = for_row = 0.0
    for op in graph.get_operations():
        if not any(tensor.dtype.is_floating for tensor in op.outputs):
            continue
        shapes = [tensor.shape for tensor in (*op.inputs, *op.outputs)]
        if all(shape.is_fully_defined() for shape in shapes):
            known += _of_op(op)
        else:
            for_row += _of_op(op)
    return known, for_row


def share_of_elements(graph: Any) -> float:
    """Returns which share of the operations is done element by element, from 0 to 1.

    Args:
        graph: A `tf.Graph`.
    """
    ops = [op for op in graph.get_operations() if op.type not in _FREE]
    all_ops = sum(_of_op(op) * _rows(op) for op in ops)
    products = sum(_of_op(op) * _rows(op) for op in ops if _is_product(op))
    return 1 - products / all_ops if all_ops else 0.0


def kernels(graph: Any) -> int:
    """Returns how many ops of a graph compute floating-point numbers.

    Args:
        graph: A `tf.Graph`.
    """
    return sum(
        op.type not in _FREE and any(tensor.dtype.is_floating for tensor in op.outputs)
        for op in graph.get_operations()
    )


def _is_product(op: Any) -> bool:
    return op.type in _MATRIX_PRODUCTS or op.type == "Einsum" or op.type in _KERNELS


def _rows(op: Any) -> int:
    known = all(tensor.shape.is_fully_defined() for tensor in (*op.inputs, *op.outputs))
    return 1 if known else _USUAL_ROWS


def _of_op(op: Any) -> float:
    written = float(sum(_elements(tensor) for tensor in op.outputs))
    if op.type in _MATRIX_PRODUCTS:
        return 2 * written * _contracted(op)
    if op.type == "Einsum":
        return 2 * written * _summed(op)
    if op.type in _KERNELS:
        place = _KERNELS[op.type]
        kernel = op.outputs[0] if place is None else op.inputs[place]
        # The side with the channels that are made: of the output, or of the gradient that comes in.
        made = op.outputs[0] if op.type in ("Conv2D", "Conv3D") else op.inputs[-1]
        channels = max(_sides(made)[-1], 1)
        return 2.0 * _elements(made) / channels * _elements(kernel)
    if op.type in _FREE:
        return 0.0
    return _ELEMENT * written


def _contracted(op: Any) -> float:
    transposed = "transpose_a" if op.type == "MatMul" else "adj_x"
    sides = _sides(op.inputs[0])
    return float(sides[-2] if op.get_attr(transposed) else sides[-1])


def _summed(op: Any) -> float:
    arguments, _, result = op.get_attr("equation").decode().partition("->")
    lengths: dict[str, int] = {}
    for labels, tensor in zip(arguments.split(","), op.inputs, strict=True):
        lengths |= dict(zip(reversed(labels), reversed(_sides(tensor)), strict=False))
    return float(
        math.prod(n for label, n in lengths.items() if label.isalpha() and label not in result)
    )


def _sides(tensor: Any) -> list[int]:
    return [side or 1 for side in tensor.shape.as_list()] if tensor.shape.rank else [1]


def _elements(tensor: Any) -> int:
    return math.prod(_sides(tensor)) if tensor.dtype.is_floating else 0
