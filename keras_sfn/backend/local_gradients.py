"""`tf.gradients` inside a loss, by tensors from outside of it.

A loss is traced many times, in functions and loops inside each other. Where it takes `tf.gradients`
by a tensor from outside (the points of a residual, as DeepXDE does), TensorFlow looks through all
functions around for ways from that tensor to the result. It finds wrong ones: the parameters that
are tried were made from a step, which was made from the points. So tracing takes minutes, and XLA
meets gradients of loops that it cannot compile. Here the gradient is taken by the tensor as it
comes into the graph in which the loss is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


def gradients(
    original: Callable[..., Any],
    parameters: Sequence[Any],
    ys: Any,
    xs: Any,
    *args: Any,
    **options: Any,
) -> list[tf.Tensor | None]:
    """Returns what `tf.gradients` does, by what comes into the graph in force.

    Args:
        original: `tf.gradients`.
        parameters: What the loss is a function of, on which `xs` do not depend.
        ys: What is differentiated.
        xs: By what.
        *args: As `tf.gradients` has them.
        **options: As `tf.gradients` has them.
    """
    found: list[tf.Tensor | None] = original(ys, _inside(parameters, ys, xs), *args, **options)
    return found


def _inside(parameters: Sequence[Any], ys: Any, xs: Any) -> Any:
    """Returns the tensors in the graph in force that stand for `xs`; `xs` where there are none."""
    graph = tf.compat.v1.get_default_graph()
    if tf.executing_eagerly() or not hasattr(graph, "captures"):
        return xs
    results = keras.tree.flatten(ys)
    outside = {id(x) for x in keras.tree.flatten(xs) if _graph_of(x) not in (None, graph)}
    if not outside or any(_graph_of(y) is not graph for y in results):
        return xs
    known = {id(parameter) for parameter in parameters}
    captured = {id(inner): outer for outer, inner in graph.captures}
    used = [captured[key] for key in _ancestors(results, known) if key in captured]
    # What the user has made of `xs` outside of the loss is a way too.
    others = [tensor for tensor in used if id(tensor) not in outside]
    if outside & _ancestors(others, known, outwards=True):
        return xs
    return keras.tree.map_structure(lambda x: graph.capture(x) if id(x) in outside else x, xs)


def _graph_of(tensor: Any) -> Any:
    symbolic = isinstance(tensor, tf.Tensor) and tf.is_symbolic_tensor(tensor)
    return tensor.graph if symbolic else None


def _ancestors(tensors: Sequence[Any], ends: set[int], outwards: bool = False) -> set[int]:
    """Returns the identities of what tensors are made of, without what stops gradients.

    Args:
        tensors: From where it is looked.
        ends: Identities at which the search ends.
        outwards: Whether it goes on in the graphs from which a graph captures.
    """
    pending, seen = list(tensors), set[int]()
    captured: dict[int, dict[int, Any]] = {}
    while pending:
        tensor = pending.pop()
        if _graph_of(tensor) is None or id(tensor) in seen or id(tensor) in ends:
            continue
        seen.add(id(tensor))
        if tensor.op.type == "StopGradient":
            continue
        pending += tensor.op.inputs
        graph = tensor.graph
        if outwards and id(graph) not in captured:
            pairs = getattr(graph, "captures", ())
            captured[id(graph)] = {id(inner): outer for outer, inner in pairs}
        if outwards and id(tensor) in captured[id(graph)]:
            pending.append(captured[id(graph)][id(tensor)])
    return seen
