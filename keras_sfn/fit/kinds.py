"""Of which kind a model is: all that a step of it, once traced, depends on.

Two models whose kinds are equal take the same steps from the same values of their variables.
"""

from __future__ import annotations

import enum
import inspect
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_sfn.fit import computation, own_train_step
from keras_sfn.objective import frozen_scope, parameter_space
from keras_sfn.preconditioner import kronecker

_PACKAGE = __name__.partition(".")[0]


class Kind(NamedTuple):
    """Of which kind a model is.

    Attributes:
        parts: Plain data, equal for models of the same kind.
        variables: All that a step may read or assign to, each once, in an order that is the same.
        constants: Digests of eager tensors that the model reads.
    """

    parts: list[Any]
    variables: list[keras.Variable]
    constants: frozenset[str]


def of(model: keras.Model, batch: computation.Batch) -> Kind:
    """Returns the kind of a model that is built, and compiled with an optimizer of this package.

    Args:
        model: The model.
        batch: On which it is trained.

    Raises:
        computation.UnknownKindError: A step depends on something that is not looked at here.
        Exception: Whatever the model's code raises in a trace.
    """
    _refuse(model, batch)
    # Does nothing where all is built.
    model._symbolic_build(data_batch=batch.packed(batch.specs))
    optimizer = model.optimizer
    every = [
        *model.variables,
        *model._loss_tracker.variables,
        *model.metrics_variables,
        *optimizer.variables,
        *optimizer.unsaved_variables,
    ]
    variables = list({id(variable): variable for variable in every}.values())
    places = {id(variable): index for index, variable in enumerate(variables)}
    trained = model.trainable_variables
    config = optimizer.get_config()
    del config["name"]
    config.pop("learning_rate", None)  # A value of the state, or a schedule, which is traced.
    computed = computation.Computation(model, batch, variables)
    parts = [
        repr(batch.packed(batch.specs)),
        type(optimizer).__qualname__,
        sorted(config.items()),
        optimizer.trace_key(),
        [optimizer._use_weight_decay(variable) for variable in trained],
        [places[id(variable)] for variable in every],
        [places[id(variable)] for variable in trained],
        [optimizer._get_variable_index(variable) for variable in trained],
        [_described(variable) for variable in variables],
        # Which variables make a block is told by their paths.
        kronecker.layer_blocks(trained),
        model.jit_compile,
        all(layer.supports_jit for layer in model._flatten_layers()),
        [str(getattr(loss, "reduction", None)) for loss in keras.tree.flatten(model.loss)],
        keras.config.floatx(),
        [device.name for device in tf.config.list_logical_devices()],
        computed.digests,
    ]
    return Kind(_plain(parts), variables, frozenset(computed.constants))


def refuse_too_large(model: keras.Model) -> None:
    """Raises where a step cannot fit into memory, as before a trace."""
    space = parameter_space.ParameterSpace(model.trainable_variables)
    model.optimizer._refuse_too_large(space)


def _refuse(model: keras.Model, batch: computation.Batch) -> None:
    """Raises where a step depends on more than is looked at, or is not taken by a program."""
    reasons = {
        "the model has a train step of its own": own_train_step.of(model) is not None,
        "the model makes its train function by itself": any(
            inspect.getattr_static(model, name) is not inspect.getattr_static(keras.Model, name)
            for name in ("make_train_function", "_make_function")
        ),
        "several steps are taken in one call": model.steps_per_execution != 1,
        "steps are taken eagerly": model.run_eagerly or tf.config.functions_run_eagerly(),
        "this is inside of a function": not tf.executing_eagerly(),
        "there is a strategy": tf.distribute.has_strategy()
        or model.distribute_strategy.num_replicas_in_sync > 1
        or model._distribute_strategy is not None,
        "the optimizer is of a class of its own": not type(model.optimizer).__module__.startswith(
            f"{_PACKAGE}."
        ),
        "a part of the batch is sparse or ragged": not all(
            isinstance(spec, tf.TensorSpec) for spec in batch.specs
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            raise computation.UnknownKindError(reason)


def _described(variable: keras.Variable) -> tuple[Any, ...]:
    """Returns all of a variable but its value that a trace may depend on."""
    value = variable.value
    return (
        tuple(value.shape),
        value.dtype.name,
        value.device,
        bool(variable.trainable),
        variable.constraint is None,
        getattr(variable, "overwrite_with_gradient", False),
        frozen_scope.is_seed(variable),
    )


def _plain(value: Any) -> Any:
    """Returns plain data as it was, to be told apart by `repr`.

    Raises:
        computation.UnknownKindError: Something in it is another object.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return [(_plain(key), _plain(each)) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str | bytes | enum.Enum):
        return value
    raise computation.UnknownKindError(f"it depends on an object: {type(value).__name__}")
