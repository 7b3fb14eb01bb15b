"""What products do with the axis of the rows; see `row_axes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_sfn.objective import row_states


def product(
    walk: row_states.Walk, op: Any, known: Sequence[row_states.Rows | None]
) -> row_states.Rows | None:
    """Follows a product in which an axis of both is summed over."""
    labels = _einsum_labels(op) if op.type == "Einsum" else _matmul_labels(op)
    *inputs, output = labels
    of_rows = set()
    for own, state in zip(inputs, known, strict=True):
        if state is not None and state.axis is not None:
            of_rows.add(own[state.axis])
    degree = walk.degree(op, known)
    if not of_rows:
        return row_states.Rows(None, degree)
    if len(of_rows) > 1:
        raise row_states.RowsMeetError(op.type)
    [label] = of_rows
    return (
        row_states.Rows(output.index(label), degree)
        if label in output
        else row_states.Rows(None, degree + 1)
    )


def _matmul_labels(op: Any) -> list[list[str]]:
    turned = ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
    ranks = [tensor.shape.rank for tensor in op.inputs]
    if None in ranks:
        raise row_states.RowsMeetError(op.type)
    ends = [["i", "j"], ["j", "k"]]
    labels = []
    for rank, end, name in zip(ranks, ends, turned, strict=True):
        outer = [f"outer {axis}" for axis in range(rank - 2, 0, -1)]
        labels.append([*outer, *(end[::-1] if op.get_attr(name) else end)])
    outer = max(labels, key=len)[:-2]
    return [*labels, [*outer, "i", "k"]]


def _einsum_labels(op: Any) -> list[list[str]]:
    equation = op.get_attr("equation").decode().replace(" ", "")
    inputs, output = equation.split("->")
    texts = inputs.split(",")
    ranks = [tensor.shape.rank for tensor in op.inputs]
    if None in ranks:
        raise row_states.RowsMeetError(op.type)
    labels, most = [], 0
    for text, rank in zip(texts, ranks, strict=True):
        count = rank - len(text.replace("...", ""))
        most = max(most, count)
        labels.append(_expanded(text, count))
    return [*labels, _expanded(output, most)]


def _expanded(text: str, count: int) -> list[str]:
    before, dots, after = text.partition("...")
    return [*before, *(f"outer {axis}" for axis in range(count, 0, -1) if dots), *after]
