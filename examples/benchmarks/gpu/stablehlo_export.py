"""A compiled function as StableHLO text, with its inputs and what TensorFlow computes of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

_TYPES = {"bool": "i1", "float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64"}


class Exported(NamedTuple):
    """A program and one call of it.

    Attributes:
        text: The program.
        inputs: Its parameters in the order in which it lists them: the function's arguments, then
            what it captures.
        outputs: Its results in their order: what the function returns, then the variables that it
            assigns.
    """

    text: str
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


def export(function: Any, arguments: Sequence[tf.Tensor]) -> Exported:
    """Exports a function and calls it once.

    Args:
        function: A `tf.function` with `jit_compile=True`.
        arguments: Tensors.

    Raises:
        NotImplementedError: This TensorFlow emits no StableHLO.
        ValueError: The program lists other inputs or outputs than those that were found.
    """
    text = _text(function, arguments)
    graph = function.get_concrete_function(*arguments)
    variables = {id(variable.handle): variable for variable in graph.variables}
    captured = [variables.get(id(capture), capture) for capture in graph.captured_inputs]
    inputs = [value.numpy() for value in (*arguments, *captured)]
    assigned = _assigned(graph)
    results = [result.numpy() for result in tf.nest.flatten(function(*arguments))]
    written = zip(captured, graph.captured_inputs, strict=True)
    results += [variable.numpy() for variable, handle in written if id(handle) in assigned]
    found = [_type(value) for value in inputs], [_type(value) for value in results]
    if found != signature(text):
        raise ValueError(
            "The program must list the arguments and captures as its parameters, and the results "
            f"and assigned variables as its results: {found}. Received: {signature(text)}."
        )
    return Exported(text, inputs, results)


def signature(text: str) -> tuple[list[str], list[str]]:
    """Returns the types of a program's parameters and results, such as "8x6xf32"."""
    main = re.search(r"func\.func (?:public )?@main\((.*?)\) -> (.*?) \{\n", text)
    if main is None:
        raise ValueError("The text must hold a function `main` with results. It holds none.")
    parameters, results = (re.findall(r"tensor<([^>]*)>", part) for part in main.groups())
    return parameters, results


def _text(function: Any, arguments: Sequence[tf.Tensor]) -> str:
    try:
        text = function.experimental_get_compiler_ir(*arguments)(stage="stablehlo")
    except ValueError as error:
        if "Invalid stage" not in str(error):
            raise
        raise NotImplementedError(
            f"TensorFlow {tf.__version__} emits no StableHLO. Use a newer one."
        ) from None
    # A call may write into its inputs where a variable is assigned; these are called again.
    text = re.sub(r"mhlo\.input_output_alias = \[[^\]]*\]", "mhlo.input_output_alias = []", text)
    # An op of XLA's own that a GPU's JAX refuses: the same number under another name.
    text = re.sub(
        r"\bmhlo\.copy (%\S+) : (tensor<[^>]*>)", r"stablehlo.reshape \1 : (\2) -> \2", text
    )
    # The names of source files say where they lie on this machine.
    return re.sub(r"(?m)^(#loc\d*) = loc\(.*\)$", r"\1 = loc(unknown)", text)


def _assigned(graph: Any) -> set[int]:
    """Returns the ids of the captured handles that a graph assigns to, outside its functions."""
    outside = {id(inside): id(handle) for handle, inside in graph.graph.captures}
    return {
        outside[id(operation.inputs[0])]
        for operation in graph.graph.get_operations()
        if operation.type.startswith("Assign") and operation.type.endswith("VariableOp")
    }


def _type(value: np.ndarray) -> str:
    return "x".join([*map(str, value.shape), _TYPES[value.dtype.name]])
