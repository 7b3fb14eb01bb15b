"""A traced function continued smoothly over its kinks, so that differences do not see them.

The gradient of a network with ReLU or max-pooling is smooth only in pieces. Its derivative, the
Hessian, is that of the piece at hand, but a difference of two gradients a finite distance apart
also sees the jumps between pieces, and in single precision no step is short enough to avoid them.
Here the function is traced into a graph, and everything that chooses between pieces keeps, at all
other points, the choice it makes at one point: comparisons, the slopes of ReLU, the places of
maxima, values under `stop_gradient`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_sfn.backend import graphs
from keras_sfn.curvature import smooth_rules


class SmoothPiece:
    """A function continued from the piece on which a point lies.

    Args:
        function: Traced: point of shape (n,) -> shape (m,).

    Attributes:
        num_kinks: Number of ops whose choices are held.
        has_free_kinks: Whether there are kinks that cannot be held: inside loops or branches, or
            in ops without a rule.
    """

    def __init__(self, function: Any) -> None:
        self._concrete = function
        graph = function.graph
        point = tf.TensorSpec(graph.inputs[0].shape, graph.inputs[0].dtype)
        path = graphs.path(graph, graph.inputs[:1], graph.outputs)
        self._editor = smooth_rules.Editor(graph)
        self.num_kinks = sum([self._editor.hold_choices(op) for op in path])
        self.has_free_kinks = any(
            kind in smooth_rules.WITHOUT_RULE for kind in (op.type for op in path)
        ) or any(
            node.op in smooth_rules.ALL_KINKS
            for op in path
            for node in graphs.nested_nodes(graph, op)
        )
        record = graphs.concrete(self._choices, point)
        choices = [tf.TensorSpec(t.shape, t.dtype) for t in record.structured_outputs]
        self._record = record
        self._continue = graphs.concrete(self._value, point, choices)

    def at(self, point: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
        """Returns the smooth continuation of the function from the piece of `point`."""
        choices = self._record(point)
        return lambda other: self._continue(other, choices)

    def _choices(self, point: tf.Tensor) -> list[tf.Tensor]:
        original, sources = self._concrete.graph.as_graph_def(), self._editor.sources()
        values = dict(zip(sources, self._import(original, point, {}, sources), strict=True))
        return [
            held.compute(*(values[name] for name in held.sources)) for held in self._editor.held
        ]

    def _value(self, point: tf.Tensor, choices: list[tf.Tensor]) -> tf.Tensor:
        names = [held.name for held in self._editor.held]
        held = dict(zip(names, choices, strict=True))
        wanted = [self._concrete.outputs[0].name]
        return self._import(self._editor.definition, point, held, wanted)[0]

    def _import(
        self, definition: Any, point: tf.Tensor, held: dict[str, tf.Tensor], wanted: list[str]
    ) -> list[tf.Tensor]:
        arguments = zip(
            self._concrete.inputs, [point, *self._concrete.captured_inputs], strict=True
        )
        # The identity brings values from outside (weights' handles, the batch) into this graph.
        inputs = {placeholder.name: tf.identity(value) for placeholder, value in arguments}
        return list(
            tf.graph_util.import_graph_def(
                definition, input_map=inputs | held, return_elements=wanted, name="piece"
            )
        )
