"""Repairs of Keras's `fit` and `evaluate` on several replicas.

Up to Keras 3.15 at least they fail under `MultiWorkerMirroredStrategy` with every optimizer, in
three places: where the model is built from the first batch, which is summed over the replicas as if
it were one tensor (and, where these have unequal rows, under `MirroredStrategy` too); where the
logs of a step, which are scalars, are averaged along an axis that scalars do not have; and, with
`steps_per_execution`, where steps are called in a loop inside one function, through which
TensorFlow does not hand on the keys of its sums. `install` puts functions before Keras's that do
these things right; nothing else changes under any other strategy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# Private: the average of the logs is a function of this module, and called by nothing public that
# could be replaced.
from keras.src.backend.tensorflow import trainer as keras_trainer

_MARK = "_keras_sfn_original"


def install() -> None:
    """Puts the repairs in place, once a process."""
    if not hasattr(keras_trainer.reduce_per_replica, _MARK):
        _wrap_symbolic_build()
        _wrap_reduce_per_replica()
        _wrap_make_function()


def _wrap_symbolic_build() -> None:
    original = keras.Model._maybe_symbolic_build

    @functools.wraps(original)
    def maybe_symbolic_build(
        self: keras.Model, iterator: Any = None, data_batch: Any = None
    ) -> None:
        strategy = self.distribute_strategy
        if iterator is not None and strategy.num_replicas_in_sync > 1:
            _, _, batches = next(iter(iterator))
            # Shapes are all that is asked for, and this worker's will do.
            data_batch = keras.tree.map_structure(
                lambda part: strategy.experimental_local_results(part)[0], next(batches)
            )
            iterator = None
        original(self, iterator=iterator, data_batch=data_batch)

    keras.Model._maybe_symbolic_build = maybe_symbolic_build


def _wrap_reduce_per_replica() -> None:
    original = keras_trainer.reduce_per_replica

    @functools.wraps(original)
    def reduce_per_replica(values: Any, strategy: tf.distribute.Strategy, reduction: str) -> Any:
        if not _is_multi_worker(strategy) or reduction not in ("auto", "mean"):
            return original(values, strategy, reduction)

        def mean(value: Any) -> Any:
            local = strategy.experimental_local_results(value)[0]
            if tf.convert_to_tensor(local).shape.rank != 0:
                return original(value, strategy, reduction)
            return strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)

        return keras.tree.map_structure(mean, values)

    setattr(reduce_per_replica, _MARK, original)
    keras_trainer.reduce_per_replica = reduce_per_replica


def _wrap_make_function() -> None:
    original = keras.Model._make_function

    @functools.wraps(original)
    def make_function(self: keras.Model, step_function: Callable[[Any], Any]) -> Any:
        function = original(self, step_function)
        if not _is_multi_worker(self.distribute_strategy):
            return function
        return functools.partial(_step_by_step, self, function)

    keras.Model._make_function = make_function


def _step_by_step(model: keras.Model, function: Callable[[Any], Any], iterator: Any) -> Any:
    """Calls a function of `steps_per_execution` steps for one step at a time."""
    steps = model.steps_per_execution
    if steps == 1 or not isinstance(iterator, tf.distribute.DistributedIterator):
        return function(iterator)
    outputs = None
    model.steps_per_execution = 1
    try:
        for _ in range(steps):
            # Asked first: a function that runs out of data counts a step before it fails.
            batch = iterator.get_next_as_optional()
            if not batch.has_value():
                break
            outputs = function([batch.get_value()])
    finally:
        model.steps_per_execution = steps
    if outputs is None:
        raise StopIteration
    return outputs


def _is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
