"""Traced functions that hold nothing of the objects with which they were traced."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# Private, as in Keras itself: nothing public calls a function without the Python objects that its
# trace has captured, and these hold the variables of the model for which it was traced; nor with
# other optimisations of its graph than those of the process.
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.python.eager import context


class Program:
    """A traced function as TensorFlow's runtime knows it: compiled once, for whatever it is given.

    What the trace has captured are arguments, so that variables of the same shapes may take the
    places of those of the trace. The runtime forgets the function with the last reference to this.

    Args:
        concrete: What `tf.function(...).get_concrete_function(...)` gave. Its outputs are tensors
            and None.

    Raises:
        TypeError: They are not.
    """

    def __init__(self, concrete: Any) -> None:
        self._names: list[str] = []
        outputs = concrete.structured_outputs
        flat = tf.nest.flatten(outputs)
        if not all(part is None or isinstance(part, tf.Tensor) for part in flat):
            raise TypeError(f"Outputs must be tensors or None. Received: {outputs}.")
        self._is_tensor = [part is not None for part in flat]
        # Without the tensors, behind which the graph stands.
        self._structure = tf.nest.pack_sequence_as(outputs, self._is_tensor)
        runtime, definition = context.context(), concrete.function_def
        self._name = definition.signature.name.encode()
        self._options = _less_optimised(runtime)
        # Under the names that they have: the runtime counts how often it is asked to keep one.
        for function in (definition, *concrete.graph.as_graph_def().library.function):
            runtime.add_function_def(function)
            self._names.append(function.signature.name)

    def __call__(self, tensors: Sequence[tf.Tensor]) -> Any:
        """Runs the function in eager code and returns its outputs.

        Args:
            tensors: One an argument, then one in the place of each capture, in their order.
        """
        runtime = context.context()
        usual = runtime.function_call_options
        runtime.function_call_options = self._options
        try:
            outputs = iter(runtime.call_function(self._name, list(tensors), sum(self._is_tensor)))
        finally:
            runtime.function_call_options = usual
        flat = [next(outputs) if there else None for there in self._is_tensor]
        return tf.nest.pack_sequence_as(self._structure, flat)

    def __del__(self) -> None:
        """Has the runtime forget the function."""
        # At the end of the process modules and the runtime may be gone.
        with contextlib.suppress(Exception):
            for name in self._names:
                context.context().remove_function(name)


def _less_optimised(runtime: Any) -> Any:
    """Returns how a program is called: its graph goes through TensorFlow's optimiser once.

    Twice, and with passes that on a CPU gain a training step nothing, is a fifth to a third of the
    time of a first step.

    Args:
        runtime: TensorFlow's eager context.
    """
    usual = runtime.function_call_options
    config = config_pb2.ConfigProto.FromString(usual.config_proto_serialized)
    rewrites, kinds = config.graph_options.rewrite_options, rewriter_config_pb2.RewriterConfig
    rewrites.meta_optimizer_iterations = kinds.ONE
    if not tf.config.list_logical_devices("GPU"):
        rewrites.layout_optimizer = kinds.OFF
        rewrites.memory_optimization = kinds.NO_MEM_OPT
        rewrites.remapping = kinds.OFF
    return context.FunctionCallOptions(usual.executor_type, config)
