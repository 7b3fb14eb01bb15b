"""Whether two traces are of the same computation, told by a digest of each.

A digest has the ops of a graph in their order, with devices, attributes, constants and what is
inside of branches, loops and functions. It has no names, which differ between equal models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_sfn.backend import graphs, second_derivatives

# Attributes that are nothing but names.
_NAMES = frozenset({"_user_specified_name"})

# Its value is another in every trace. The gradient behind it is seen where that is traced.
_OWN_GRADIENT = "_gradient_op_type"

# Parts of names by which a step tells ops apart.
_MARKS = (second_derivatives.SCOPE, second_derivatives.CONSTANT, graphs.GRADIENT_SCOPE)

# They call Python code, which a graph does not show.
_PYTHON = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})


def of_graph(graph: Any, inputs: Mapping[str, str], outputs: Sequence[tf.Tensor]) -> str:
    """Returns the digest of a graph.

    Args:
        graph: A `FuncGraph`.
        inputs: Names of its placeholders -> what is put in their places.
        outputs: Tensors of the graph, which are told apart by their order.

    Raises:
        ValueError: The graph calls Python code.
    """
    definition = graph.as_graph_def()
    functions = {function.signature.name: function for function in definition.library.function}
    reader = _Reader(functions)
    places = dict(inputs)
    nodes = [node for node in definition.node if node.name not in inputs]
    lines = [f"{name}" for name in inputs.values()]
    lines += reader.lines(nodes, places)
    lines += [_place(tensor.name, places) for tensor in outputs]
    return _joined(lines)


def of_tensor(tensor: tf.Tensor) -> str:
    """Returns the digest of an eager tensor's dtype, shape and numbers."""
    array = tensor.numpy()
    # Strings are objects, whose bytes are addresses.
    content = array.tobytes() if isinstance(array, np.ndarray) and array.dtype != object else None
    if content is None:
        content = repr(array.tolist() if isinstance(array, np.ndarray) else array).encode()
    described = repr((tensor.dtype.name, tensor.shape.as_list()))
    return _joined([described, hashlib.sha256(content).hexdigest()])


def own_gradients(graph: Any) -> frozenset[bytes]:
    """Returns what tells apart the ops of a graph that have a gradient of their own."""
    definition = graph.as_graph_def()
    bodies = [definition.node, *(f.node_def for f in definition.library.function)]
    return frozenset(
        node.attr[_OWN_GRADIENT].s for body in bodies for node in body if _OWN_GRADIENT in node.attr
    )


def _joined(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _place(name: str, places: Mapping[str, str]) -> str:
    """Returns an input of a node with the place of the op in place of its name."""
    control = "^" if name.startswith("^") else ""
    op, colon, output = name.removeprefix("^").partition(":")
    # "op" is the same as "op:0" in a graph; in functions all have an output's name.
    return f"{control}{places[op]}:{output if colon else 0}"


class _Reader:
    """Reads nodes, and the functions that they call.

    Args:
        functions: Definitions by name.
    """

    def __init__(self, functions: Mapping[str, Any]) -> None:
        self._functions = functions
        self._digests: dict[str, str] = {}

    def lines(self, nodes: Sequence[Any], places: dict[str, str]) -> list[str]:
        """Returns a line a node, and adds the places of the nodes to `places`."""
        places.update((node.name, f"op {index}") for index, node in enumerate(nodes))
        return [self._line(node, places) for node in nodes]

    def _line(self, node: Any, places: Mapping[str, str]) -> str:
        if node.op in _PYTHON:
            raise ValueError(f"The trace calls Python code, by the op {node.op}.")
        called = self._function(node.op) if node.op in self._functions else node.op
        marks = [mark for mark in _MARKS if mark in node.name]
        inputs = [_place(name, places) for name in node.input]
        attributes = [
            (name, self._attribute(name, value, places))
            for name, value in sorted(node.attr.items())
            if name not in _NAMES
        ]
        return repr((called, node.device, marks, inputs, attributes))

    def _attribute(self, name: str, value: Any, places: Mapping[str, str]) -> Any:
        if name == _OWN_GRADIENT:
            return True
        if name == "_class":
            return [places.get(each.decode().removeprefix("loc:@"), each) for each in value.list.s]
        if value.HasField("func"):
            return self._called(value.func, places)
        if value.list.func:
            return [self._called(each, places) for each in value.list.func]
        return value.SerializeToString(deterministic=True)

    def _called(self, function: Any, places: Mapping[str, str]) -> Any:
        attributes = [
            (name, self._attribute(name, value, places))
            for name, value in sorted(function.attr.items())
            if name not in _NAMES
        ]
        return (self._function(function.name) if function.name else "", attributes)

    def _function(self, name: str) -> str:
        if name not in self._digests:
            self._digests[name] = self._digest(self._functions[name])
        return self._digests[name]

    def _digest(self, function: Any) -> str:
        arguments = function.signature.input_arg
        places = {each.name: f"argument {index}" for index, each in enumerate(arguments)}
        lines = [repr((each.type, each.type_list_attr, each.number_attr)) for each in arguments]
        lines += self.lines(function.node_def, places)
        lines += [
            f"{each.type} {_place(function.ret[each.name], places)}"
            for each in function.signature.output_arg
        ]
        lines += sorted(_place(each, places) for each in function.control_ret.values())
        lines += [
            repr((name, self._attribute(name, value, places)))
            for name, value in sorted(function.attr.items())
            if name not in _NAMES
        ]
        return _joined(lines)
