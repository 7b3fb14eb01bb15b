"""How fast the moving statistics of batch normalisation follow the steps.

Keras's layer moves them by

    statistic <- m statistic + (1 - m) statistic of the batch

at each step, with m = 0.99. The steps of our optimizers are few and long: the statistics of a
hundred steps ago are those of another model, and after a few dozen steps even the initial values
are still in them. `evaluate` then shows another model than the one that trains. So in a step of
ours a layer finds in the place of its momentum, on a batch of r rows after t steps,

    1 - (1 - q) / (1 - q^(t + 1)),    q = min(m, exp(-r / 128)).

What is older than 128 rows is forgotten, on batches of 32 as with a momentum of 0.78. Noise of the
statistics is what training itself works with: there a batch is normalised by its own, and these are
averages over more rows, or as many. What spoils `evaluate` is their age. The denominator takes the
initial values out, as in Adam.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

# Rows after which a statistic is forgotten (docs/research.md, 2026-11-30).
_ROWS = 128

_MARK = "_keras_sfn_original"
_thread = threading.local()


class Pace(NamedTuple):
    """What the statistics follow.

    Attributes:
        rows: Of the step, a scalar; None for those of what a layer is called with.
        steps: Scalar, how many were taken before.
    """

    rows: Any
    steps: Any

    def momentum(self, of_layer: float, call: int = 1) -> Any:
        """Returns the momentum of a step, in float64.

        Args:
            of_layer: What the layer was made with. At 1 its statistics do not move, here neither.
            call: Which call of the layer in the step it is. The second has half the part of the
                first, lest at large batches the last alone count.
        """
        if self.rows is None or not 0 < of_layer < 1:
            return of_layer
        kept = tf.minimum(tf.exp(-tf.cast(self.rows, tf.float64) / _ROWS), of_layer)
        steps = tf.cast(self.steps, tf.float64) + 1
        return 1 - (1 - kept) / (1 - kept**steps) / call


@contextlib.contextmanager
def at(pace: Pace | None) -> Iterator[None]:
    """Has layers move their statistics at a pace in this thread, until the block ends.

    Args:
        pace: The pace; None is that of the layers themselves.
    """
    with _put_in_force(None if pace is None else _InForce(pace, {})):
        yield


def install() -> None:
    """Has `keras.layers.BatchNormalization` heed `at`, once a process."""
    layer = keras.layers.BatchNormalization
    original = layer.call
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def call(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        now = _in_force()
        if now is None:
            return original(self, inputs, *args, **kwargs)
        pace, calls = now.pace, now.calls
        if pace.rows is None:
            pace = pace._replace(rows=tf.shape(inputs)[0])
        calls[id(self)] = calls.get(id(self), 0) + 1
        with _put_in_force(_InForce(pace, calls)):
            return original(self, inputs, *args, **kwargs)

    setattr(call, _MARK, original)
    layer.call = call
    layer.momentum = _Momentum()


class _InForce(NamedTuple):
    """A pace, and how often each layer, by its identity, was called at it."""

    pace: Pace
    calls: dict[int, int]


class _Momentum:
    """A layer's `momentum`: what was assigned to it, but where a pace is in force.

    An attribute that is changed for the time of a step would be changed for all threads.
    """

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None:
            return self
        try:
            momentum = vars(layer)["momentum"]
        except KeyError:
            raise AttributeError(f"{type(layer).__name__} has no momentum yet") from None
        now = _in_force()
        # Without autocast it computes in the dtype of its inputs, which nothing tells here.
        if now is None or not layer.autocast:
            return momentum
        dtype = keras.backend.result_type(layer.compute_dtype, "float32")
        return tf.cast(now.pace.momentum(momentum, now.calls.get(id(layer), 1)), dtype)

    def __set__(self, layer: Any, momentum: float) -> None:
        vars(layer)["momentum"] = momentum


def _in_force() -> _InForce | None:
    return getattr(_thread, "in_force", None)


@contextlib.contextmanager
def _put_in_force(now: _InForce | None) -> Iterator[None]:
    before = _in_force()
    _thread.in_force = now
    try:
        yield
    finally:
        _thread.in_force = before
