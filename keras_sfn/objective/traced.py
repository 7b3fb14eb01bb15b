"""One look at a loss: its gradient, traced once, and what the trace shows."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_sfn.backend import arithmetic, graphs
from keras_sfn.objective import cut as cut_lib
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import row_axes

# What code that runs only eagerly raises in a trace: branches on tensors, `tensor.numpy()`.
_ONLY_EAGER = (tf.errors.OperatorNotAllowedInGraphError, AttributeError)


class Traced(NamedTuple):
    """What the trace of a loss and its gradient shows.

    Attributes:
        concrete: The gradient as a traced function of the point, shape (n,). None where the loss
            has code that runs only eagerly.
        ops: Types of the ops of the loss itself.
        outputs: Structure of `tf.TensorSpec`, what else the loss returned.
        updated: Variables that a pass assigns to.
        rows_meet: Why no part of the rows can stand for all of them (`row_axes.meeting`), or None.
        cut: Names of the tensors in which the curvature of the loss is taken (`cut.find`).
        cut_shapes: Their shapes.
        arithmetic: As of `arithmetic.operations`, of the gradient.
        error: Why there is no graph, or None.
    """

    concrete: Any
    ops: frozenset[str]
    outputs: Any
    updated: tuple[keras.Variable, ...]
    cut: tuple[str, ...]
    cut_shapes: tuple[tf.TensorShape, ...] = ()
    arithmetic: tuple[float, float] = (0.0, 0.0)
    rows_meet: str | None = None
    error: Exception | None = None

    @property
    def graph(self) -> Any:
        """Returns the graph of the gradient, whose first input is the point; None without one."""
        return None if self.concrete is None else self.concrete.graph

    @property
    def has_loops(self) -> bool:
        """Whether the loss has loops or branches."""
        return bool(self.ops & graphs.CONTROL_FLOW)

    @property
    def has_forward_mode(self) -> bool:
        """Whether the loss uses `tf.autodiff.ForwardAccumulator`."""
        return self.graph is not None and graphs.has_forward_mode(self.graph)

    @property
    def predictions_a_row(self) -> int:
        """How many predictions the loss has of a row: of a sequence, one for each position."""
        shapes = [shape.as_list() for shape in self.cut_shapes if shape.rank == 3]
        return max([1, *(shape[1] or 1 for shape in shapes)])

    @property
    def has_own_gradients(self) -> bool:
        """Whether an op of the loss has another gradient than TensorFlow's for its type."""
        return self.graph is not None and graphs.has_own_gradients(self.graph)

    @property
    def stops_gradient(self) -> bool:
        """Whether the loss calls `stop_gradient` outside loops and branches."""
        return self.graph is not None and graphs.calls_stop_gradient(self.graph)


def trace(objective: objective_lib.Objective, data: Any = None) -> Traced:
    """Traces the gradient of a loss in a graph of its own.

    Args:
        objective: The loss.
        data: Structure of the tensors with rows along their first axis that the loss is made of;
            None where these are not known.

    Raises:
        ValueError: See `objective.Objective.evaluate`.
    """
    space = objective.space
    found: list[Any] = []
    parts = keras.tree.flatten(data)

    def gradient(point: tf.Tensor) -> tf.Tensor:
        parameters = space.unflatten(point)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(parameters)
            evaluation = objective.evaluate(parameters)
        cut = cut_lib.find(parameters, evaluation.loss, cut_lib.floating(evaluation.outputs))
        graph = evaluation.loss.graph
        # As the graph holds them; eager ones of a few numbers are constants there.
        inside = [held for outer, held in graph.captures if any(outer is part for part in parts)]
        meet = row_axes.meeting(graph, inside, evaluation.loss)
        found[:] = evaluation, cut, meet
        return objective.joined(tape.gradient(evaluation.loss, parameters), parameters)

    try:
        concrete = graphs.concrete(gradient, tf.TensorSpec((space.size,), space.dtype))
    except _ONLY_EAGER as error:
        if not tf.executing_eagerly():
            raise
        return Traced(None, frozenset(), None, (), (), error=error)
    evaluation, cut, meet = found
    specs = keras.tree.map_structure(
        lambda out: tf.TensorSpec(out.shape, out.dtype) if tf.is_tensor(out) else None,
        evaluation.outputs,
    )
    return Traced(
        concrete=concrete,
        ops=graphs.op_types(concrete.graph),
        outputs=specs,
        updated=tuple(variable for variable, _ in evaluation.updates),
        cut=tuple(tensor.name for tensor in cut),
        cut_shapes=tuple(tensor.shape for tensor in cut),
        arithmetic=arithmetic.operations(concrete.graph),
        rows_meet=meet,
    )
