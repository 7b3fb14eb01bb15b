"""Compiled steps that models of the same kind share in a process.

Tracing and compiling a step takes seconds, and models come in rows: folds of a cross-validation,
trials of a tuner. A step that was traced for one model is kept as a program whose variables are
arguments (`backend.programs`), under a digest of all that its trace depended on (`kinds`). A model
of the same kind takes its steps by the same program, on variables of its own. Where anything is
unsure the step is traced anew, and a debug line of the log says why.
"""

from __future__ import annotations

import collections
import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from absl import logging

from keras_sfn.backend import fingerprints, programs
from keras_sfn.fit import computation, kinds
from keras_sfn.optimizers import decisions as decisions_lib

# Programs that are kept. One is forgotten with the last model that uses it after that.
_MOST = 16


class _Kept(NamedTuple):
    """A step for models of one kind.

    Attributes:
        program: The step.
        captured: What stands behind the data in its arguments: the index of a variable of
            `kinds.variables`, or a constant.
        decisions: Those of the optimizer for which it was traced.
    """

    program: programs.Program
    captured: list[int | tf.Tensor]
    decisions: decisions_lib.Traced


_lock = threading.Lock()
_kept: collections.OrderedDict[str, _Kept] = collections.OrderedDict()


def forget() -> None:
    """Forgets all steps; models that use one keep it."""
    with _lock:
        _kept.clear()


class TrainFunction:
    """Stands in the place of Keras's train function of a model.

    Args:
        model: The model.
        ordinary: Keras's train function, which takes the steps that cannot be shared.
    """

    def __init__(self, model: keras.Model, ordinary: Callable[[Any], Any]) -> None:
        self._model, self._ordinary = model, ordinary
        self._steps: list[tuple[computation.Batch, Callable[[Sequence[Any]], Any] | None]] = []
        self._spec: Any = None
        self._step: Callable[[Sequence[tf.Tensor]], Any] | None = None

    def __call__(self, iterator: Any) -> Any:
        """Takes a step on the next batch of an iterator; returns the logs."""
        if not isinstance(iterator, tf.data.Iterator):
            return self._ordinary(iterator)
        spec = iterator.element_spec
        if spec is not self._spec:
            self._spec, self._step = spec, self._step_of(computation.Batch(spec))
        if self._step is None:
            return self._ordinary(iterator)
        return self._step([part for part in tf.nest.flatten(next(iterator)) if tf.is_tensor(part)])

    def _step_of(self, batch: computation.Batch) -> Callable[[Sequence[Any]], Any] | None:
        """Returns the step for batches of a data set, as one that fits or a new one."""
        for known, step in self._steps:
            if known.fits(batch):
                return step
        if self._steps:
            # As `tf.function` in Keras's train function: the second of several sizes stands for all
            # that follow.
            batch = batch.widened(self._steps[-1][0])
        self._steps.append((batch, self._found(batch)))
        return self._steps[-1][1]

    def _found(self, batch: computation.Batch) -> Callable[[Sequence[Any]], Any] | None:
        """Returns the step for batches of a kind; None where Keras's function is to take it."""
        model = self._model
        try:
            kind = kinds.of(model, batch)
        # Whatever is wrong with a model, its own trace tells better.
        except Exception as error:
            logging.debug("%s: the step is not shared: %s", model.name, error)
            return None
        key = hashlib.sha256(repr(kind.parts).encode()).hexdigest()
        with _lock:
            kept = _kept.get(key)
            if kept is not None:
                _kept.move_to_end(key)
        if kept is not None:
            logging.debug("%s: takes the steps that were compiled for its like.", model.name)
            kinds.refuse_too_large(model)
            model.optimizer.adopt(kept.decisions)
            return _bound(kept, kind.variables)
        concrete = batch.traced(model)
        try:
            kept = _Kept(
                programs.Program(concrete),
                _captured(concrete, kind),
                model.optimizer.traced_decisions(),
            )
        except (TypeError, ValueError) as error:
            logging.debug("%s: the step is not kept for others: %s", model.name, error)
            return lambda parts: concrete(*parts)
        with _lock:
            _kept[key] = kept
            while len(_kept) > _MOST:
                _kept.popitem(last=False)
        return _bound(kept, kind.variables)


def _captured(concrete: Any, kind: kinds.Kind) -> list[int | tf.Tensor]:
    """Returns what stands behind the data in the arguments of a traced step.

    Raises:
        ValueError: Something that another model might have otherwise.
    """
    places = {id(handle): index for index, handle in enumerate(_handles(kind.variables))}
    found: list[int | tf.Tensor] = []
    for tensor in concrete.captured_inputs:
        if id(tensor) in places:
            found.append(places[id(tensor)])
        elif tensor.dtype == tf.resource or fingerprints.of_tensor(tensor) not in kind.constants:
            raise ValueError(f"It reads what is no variable of the model: {tensor.dtype.name}.")
        else:
            found.append(tensor)
    return found


def _bound(kept: _Kept, variables: Sequence[keras.Variable]) -> Callable[[Sequence[Any]], Any]:
    """Returns the step of one model: tensors of a batch -> logs."""
    handles = _handles(variables)
    others = [handles[each] if isinstance(each, int) else each for each in kept.captured]
    return lambda parts: kept.program([*parts, *others])


def _handles(variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
    return [variable.value.handle for variable in variables]
