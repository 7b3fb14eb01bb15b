"""Gradients that a user's train step takes by `tf.GradientTape`, with the losses they are of.

In a frozen evaluation variables stand for tensors. A tape does not watch these by itself, and it
cannot give gradients by a variable. `install` puts functions before two methods of the tape that do
both, and note what each gradient is of, in a thread where a `Record` is in force. Everywhere else
they call TensorFlow's own.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

_MARK = "_keras_sfn_original"
_thread = threading.local()


class Source(NamedTuple):
    """Of what a gradient is.

    Attributes:
        call: Number of the call that gave it.
        gradient: The gradient itself, kept so that no other object gets its identity.
        target: What was differentiated, as it was passed.
        loss: Scalar that has this gradient.
        variable: By what it was differentiated.
    """

    call: int
    gradient: Any
    target: Any
    loss: tf.Tensor
    variable: keras.Variable


class Record:
    """The gradients by variables that one pass through a train step takes.

    Args:
        value_of: Variable -> the tensor that stands for it, or what it holds.
        watched: Variables whose values the tapes watch.
        needless: Of earlier passes: number of a call -> for each of its gradients, whether there
            was one. What these calls give is never used: zeros will do.
    """

    def __init__(
        self,
        value_of: Callable[[keras.Variable], Any],
        watched: Sequence[keras.Variable],
        needless: dict[int, list[bool]],
    ) -> None:
        self._value_of, self._watched, self._needless = value_of, watched, needless
        self._sources: dict[int, Source] = {}
        self._calls: list[list[Any]] = []

    def source(self, gradient: Any) -> Source | None:
        """Returns of what a gradient is, or None where no tape gave it."""
        return self._sources.get(id(gradient))

    def unused(self) -> dict[int, list[bool]]:
        """Returns the calls no op has an input from, as `needless` of passes in graphs."""
        return {
            call: [gradient is not None for gradient in gradients]
            for call, gradients in enumerate(self._calls)
            if not any(_consumers(gradient) for gradient in gradients)
        }

    def entered(self, tape: tf.GradientTape) -> None:
        """Has a tape watch the values that stand for variables."""
        if getattr(tape, "_watch_accessed_variables", True):
            for variable in self._watched:
                tape.watch(self._value_of(variable))

    def gradient(
        self,
        original: Callable[..., Any],
        tape: tf.GradientTape,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        **options: Any,
    ) -> Any:
        """Does what `tape.gradient` does."""
        variables = keras.tree.flatten(sources)
        if not any(isinstance(variable, keras.Variable) for variable in variables):
            return original(tape, target, sources, output_gradients, **options)
        call = len(self._calls)
        values = [
            self._value_of(variable) if isinstance(variable, keras.Variable) else variable
            for variable in variables
        ]
        if call in self._needless:
            there = self._needless[call]
            found = [
                tf.zeros_like(value) if one else None
                for value, one in zip(values, there, strict=True)
            ]
        else:
            found = original(tape, target, values, output_gradients, **options)
        # Each an object of its own: one tensor may be the gradient by several variables.
        found = [_own(gradient) for gradient in found]
        self._calls.append(found)
        loss = _loss(target, output_gradients)
        for gradient, variable in zip(found, variables, strict=True):
            if gradient is not None:
                self._sources[id(gradient)] = Source(call, gradient, target, loss, variable)
        return keras.tree.pack_sequence_as(sources, found)


@contextlib.contextmanager
def recorded(record: Record) -> Iterator[None]:
    """Has tapes note their gradients in this thread, until the block ends."""
    before = _in_force()
    _thread.record = record
    try:
        yield
    finally:
        _thread.record = before


def install() -> None:
    """Puts functions that heed `recorded` before those of the tape, once a process."""
    if hasattr(tf.GradientTape.gradient, _MARK):
        return
    enter, gradient = tf.GradientTape.__enter__, tf.GradientTape.gradient

    @functools.wraps(enter)
    def entering(self: tf.GradientTape) -> Any:
        entered, record = enter(self), _in_force()
        if record is not None:
            record.entered(self)
        return entered

    @functools.wraps(gradient)
    def taking(self: tf.GradientTape, target: Any, sources: Any, *args: Any, **options: Any) -> Any:
        record = _in_force()
        if record is None:
            return gradient(self, target, sources, *args, **options)
        return record.gradient(gradient, self, target, sources, *args, **options)

    setattr(taking, _MARK, gradient)
    tf.GradientTape.__enter__ = entering
    tf.GradientTape.gradient = taking


def _in_force() -> Record | None:
    return getattr(_thread, "record", None)


def _own(gradient: Any) -> Any:
    if isinstance(gradient, tf.IndexedSlices):
        values = tf.identity(gradient.values)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return None if gradient is None else tf.identity(gradient)


def _consumers(gradient: Any) -> list[Any]:
    if gradient is None:
        return []
    held = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
    return held.consumers()


def _loss(target: Any, output_gradients: Any) -> tf.Tensor:
    """Returns the scalar whose gradient a tape gives."""
    targets = keras.tree.flatten(target)
    weights = keras.tree.flatten(output_gradients) if output_gradients is not None else [None]
    if len(weights) != len(targets):
        weights = [None] * len(targets)
    terms = [
        tf.reduce_sum(part if weight is None else part * tf.stop_gradient(weight))
        for part, weight in zip(targets, weights, strict=True)
    ]
    return terms[0] if len(terms) == 1 else tf.add_n(terms)
