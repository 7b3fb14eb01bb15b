"""Mean and variance that can be differentiated twice.

`tf.nn.moments` stops the gradient at the mean inside the variance. The first derivative does not
notice, because its part through the mean is zero; the second derivative loses that part, and
Hessians through BatchNormalization, LayerNormalization and GroupNormalization come out 7 to 27 %
wrong, in either mode. While an objective is traced, `exact` puts plain moments in place of
TensorFlow's, for the tracing thread alone; everything outside calls TensorFlow's own.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

_MARK = "_keras_sfn_original"
_thread = threading.local()


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Makes `tf.nn.moments` twice differentiable in this thread, until the block ends."""
    depth = getattr(_thread, "depth", 0)
    _thread.depth = depth + 1
    try:
        yield
    finally:
        _thread.depth = depth


def install() -> None:
    """Puts a function before `tf.nn.moments` that heeds `exact`, once a process."""
    original = tf.nn.moments
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def moments(
        x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: str | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if getattr(_thread, "depth", 0):
            return _twice_differentiable(x, axes, keepdims)
        return original(x, axes, shift=shift, keepdims=keepdims, name=name)

    setattr(moments, _MARK, original)
    tf.nn.moments = moments


def _twice_differentiable(x: Any, axes: Any, keepdims: bool) -> tuple[tf.Tensor, tf.Tensor]:
    x = tf.convert_to_tensor(x)
    # As TensorFlow does: float16 cannot hold the sums.
    wide = tf.cast(x, tf.float32) if x.dtype == tf.float16 else x
    mean = tf.reduce_mean(wide, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(wide, mean), axes, keepdims=keepdims)
    if not keepdims:
        mean = tf.squeeze(mean, axes)
    return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)
