"""What a model computes in a step, read from a trace.

Not from its configuration: custom layers, closures, losses and schedules show in a trace what they
do. It is of what a step evaluates: the loss in training mode under the frozen scope, on the batch
and on a part of its rows; then the metrics, the constraints and the learning rate.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_sfn.backend import fingerprints
from keras_sfn.objective import model_loss, parameter_space
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import rows as rows_lib


class UnknownKindError(Exception):
    """A step depends on something that cannot be compared."""


class Batch:
    """What a data set says of its batches.

    Args:
        spec: The `element_spec` of an iterator.
    """

    def __init__(self, spec: Any) -> None:
        # Keras wraps what may be missing, and takes the wrapper off before the step.
        self._spec = keras.tree.map_structure(
            lambda part: None if isinstance(part, tf.OptionalSpec) else part, spec
        )
        flat = tf.nest.flatten(self._spec)
        self.specs = [part for part in flat if part is not None]
        self._there = [part is not None for part in flat]

    def fits(self, other: Batch) -> bool:
        """Whether a step that was traced for this takes batches of another data set."""
        return self._like(other) and all(
            spec.shape.is_subtype_of(own.shape)
            for own, spec in zip(self.specs, other.specs, strict=True)
        )

    def widened(self, other: Batch) -> Batch:
        """Returns what both this and another are, with unknown sizes; this where there is none."""
        if not self._like(other):
            return self
        shapes = [
            own.shape.most_specific_common_supertype([spec.shape])
            for own, spec in zip(self.specs, other.specs, strict=True)
        ]
        specs = [
            own if shape is None or shape.rank is None else tf.TensorSpec(shape, own.dtype)
            for own, shape in zip(self.specs, shapes, strict=True)
        ]
        return Batch(self.packed(specs))

    def _like(self, other: Batch) -> bool:
        """Whether two have the same structure, of tensors of the same dtypes."""
        if not all(isinstance(spec, tf.TensorSpec) for spec in (*self.specs, *other.specs)):
            return False
        return repr(self.packed([s.dtype for s in self.specs])) == repr(
            other.packed([s.dtype for s in other.specs])
        )

    def packed(self, tensors: Sequence[Any]) -> Any:
        """Returns tensors, one for each that is not missing, as a batch."""
        rest = iter(tensors)
        flat = [next(rest) if there else None for there in self._there]
        return tf.nest.pack_sequence_as(self._spec, flat)

    def traced(self, model: keras.Model) -> Any:
        """Returns the step of a model as a traced function of the parts of a batch."""

        @tf.autograph.experimental.do_not_convert
        def step(*parts: tf.Tensor) -> Any:
            return model.distribute_strategy.run(model.train_step, args=(self.packed(parts),))

        return tf.function(step).get_concrete_function(*self.specs)


class Computation:
    """What a model computes.

    Args:
        model: The model.
        batch: On which it is trained.
        variables: All that it may read.

    Attributes:
        digests: What it computes.
        constants: Digests of eager tensors that it reads.
    """

    def __init__(
        self, model: keras.Model, batch: Batch, variables: Sequence[keras.Variable]
    ) -> None:
        self._model = model
        self._places = {id(variable): index for index, variable in enumerate(variables)}
        self._handles = {id(v.value.handle): index for index, v in enumerate(variables)}
        self.constants: set[str] = set()
        graph = tf.__internal__.FuncGraph("kind")
        with graph.as_default(), _same_python_random():
            parts = [tf.compat.v1.placeholder(spec.dtype, spec.shape) for spec in batch.specs]
            # As Keras traces a step.
            look = tf.autograph.experimental.do_not_convert(self._look)
            found, outputs = look(keras.utils.unpack_x_y_sample_weight(batch.packed(parts)))
        inputs = {part.op.name: f"part {index}" for index, part in enumerate(parts)}
        inputs |= {inner.op.name: self._captured(outer) for outer, inner in graph.captures}
        self.digests = [found, fingerprints.of_graph(graph, inputs, outputs)]

    def _captured(self, tensor: tf.Tensor) -> str:
        if id(tensor) in self._handles:
            return f"variable {self._handles[id(tensor)]}"
        if tensor.dtype == tf.resource:
            raise UnknownKindError("the model reads a variable or table that is not Keras's")
        digest = fingerprints.of_tensor(tensor)
        self.constants.add(digest)
        return f"constant {digest}"

    def _look(self, data: Any) -> tuple[list[Any], list[tf.Tensor]]:
        """Traces what a step evaluates; returns what is no tensor of it, and the tensors."""
        model, space = self._model, parameter_space.ParameterSpace(self._model.trainable_variables)
        values = space.values()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            evaluation = self._evaluated(space, values, data)
        structures: list[Any] = [evaluation.outputs]
        structures.append([(self._places[id(v)], value) for v, value in evaluation.updates])
        structures.append(self._gradients(tape, evaluation.loss, values))
        count = rows_lib.static_count(data)
        if count is not None and count > 1 and rows_lib.obstacle(data) is None:
            structures.append(self._part(space, values, rows_lib.first(data, count // 2)))
        rows = rows_lib.count(data[0])
        model._loss_tracker.update_state(evaluation.loss, sample_weight=rows)
        x, y, sample_weight = data
        structures.append(model.compute_metrics(x, y, evaluation.outputs, sample_weight))
        structures.append(
            [
                None if variable.constraint is None else variable.constraint(value)
                for variable, value in zip(space.variables, values, strict=True)
            ]
        )
        structures.append(keras.ops.convert_to_tensor(model.optimizer.learning_rate))
        found = keras.tree.map_structure(
            lambda part: "tensor" if tf.is_tensor(part) else part, structures
        )
        tensors = [part for part in keras.tree.flatten(structures) if tf.is_tensor(part)]
        # Some are variables.
        return found, [tf.convert_to_tensor(part) for part in (evaluation.loss, *tensors)]

    def _evaluated(
        self, space: parameter_space.ParameterSpace, values: list[tf.Tensor], data: Any
    ) -> objective_lib.Evaluation:
        loss_fn = model_loss.batch_loss(self._model, *data)
        return objective_lib.Objective(loss_fn, space).evaluate(values)

    def _gradients(
        self, tape: tf.GradientTape, loss: tf.Tensor, values: list[tf.Tensor]
    ) -> list[Any] | None:
        """Traces the gradient where ops have one of their own, which only shows there."""
        graph = loss.graph
        own = fingerprints.own_gradients(graph)
        if not own:
            return None
        gradients = [
            part if part is None else tf.convert_to_tensor(part)
            for part in tape.gradient(loss, values)
        ]
        if fingerprints.own_gradients(graph) != own:
            raise UnknownKindError("the gradient of an op has a gradient of its own")
        return gradients

    def _part(
        self, space: parameter_space.ParameterSpace, values: list[tf.Tensor], data: Any
    ) -> tf.Tensor | str:
        """Traces the loss of a part of the rows: code may tell numbers of rows apart."""
        try:
            return self._evaluated(space, values, data).loss
        # As a step would find out.
        except Exception as error:
            return type(error).__name__


@contextlib.contextmanager
def _same_python_random() -> Iterator[None]:
    """Leaves the random states of Python and NumPy as they were: the step draws from them."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
