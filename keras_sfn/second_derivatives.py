"""Functions of TensorFlow whose second derivatives are wrong or missing, replaced by exact ones.

- `tf.nn.moments` stops the gradient at the mean inside the variance. The first derivative does not
  notice, because its part through the mean is zero; the second derivative loses that part, and
  Hessians through BatchNormalization, LayerNormalization and GroupNormalization come out 7 to 27 %
  wrong, in either mode.
- `tf.image.resize`: the gradient of bilinear resizing is marked as not differentiable, so that its
  part of the Hessian is dropped silently (40 to 90 %); the other methods have no rule and raise.
  Resizing is linear and separable: the replacement multiplies by one matrix for each axis.
- `tf.nn.softsign` has no second derivative and raises.

While an objective is traced, `exact` puts the replacements in force for the tracing thread alone;
everything outside calls TensorFlow's own functions.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

# Ops below this name scope stand in for others and are known to be right.
SCOPE = "keras_sfn_exact"

_MARK = "_keras_sfn_original"
_thread = threading.local()


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Puts the replacements in force in this thread, until the block ends."""
    depth = getattr(_thread, "depth", 0)
    _thread.depth = depth + 1
    try:
        yield
    finally:
        _thread.depth = depth


def install() -> None:
    """Puts functions that heed `exact` before TensorFlow's own, once a process."""
    _replace(tf.nn, "moments", _moments)
    _replace(tf.nn, "softsign", _softsign)
    _replace(tf.image, "resize", _resize)


def _replace(module: Any, name: str, replacement: Callable[..., Any]) -> None:
    original = getattr(module, name)
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def switch(*args: Any, **kwargs: Any) -> Any:
        if not getattr(_thread, "depth", 0):
            return original(*args, **kwargs)
        return replacement(original, *args, **kwargs)

    setattr(switch, _MARK, original)
    setattr(module, name, switch)


def _moments(
    original: Callable[..., Any],
    x: Any,
    axes: Any,
    shift: Any = None,
    keepdims: bool = False,
    name: str | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    del original, shift, name  # TensorFlow ignores `shift` too.
    x = tf.convert_to_tensor(x)
    # As TensorFlow does: float16 cannot hold the sums.
    wide = tf.cast(x, tf.float32) if x.dtype == tf.float16 else x
    mean = tf.reduce_mean(wide, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(wide, mean), axes, keepdims=keepdims)
    if not keepdims:
        mean = tf.squeeze(mean, axes)
    return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)


def _softsign(original: Callable[..., Any], features: Any, name: str | None = None) -> tf.Tensor:
    del original, name
    features = tf.convert_to_tensor(features)
    return features / (1 + tf.abs(features))


def _resize(
    original: Callable[..., Any],
    images: Any,
    size: Any,
    method: str = "bilinear",
    preserve_aspect_ratio: bool = False,
    antialias: bool = False,
    name: str | None = None,
) -> tf.Tensor:
    images = tf.convert_to_tensor(images)
    if preserve_aspect_ratio or not images.dtype.is_floating:
        return original(images, size, method, preserve_aspect_ratio, antialias, name)

    def matrix(length: Any, wanted: Any) -> tf.Tensor:
        """What `original` does to one axis: column i is the resized i-th unit vector."""
        with tf.name_scope(SCOPE):
            units = tf.eye(length)[:, :, None, None]
            columns = original(units, tf.stack([wanted, 1]), method, False, antialias)
            return tf.transpose(columns[:, :, 0, 0])

    shape, dynamic = images.shape.as_list()[-3:-1], tf.shape(images)[-3:-1]
    lengths = [n if n is not None else dynamic[axis] for axis, n in enumerate(shape)]
    # TensorFlow's own gives float32, except the nearest neighbour, which keeps the dtype. Here
    # float64 stays too: a detour through float32 would spoil differences of gradients.
    working = tf.float64 if images.dtype == tf.float64 else tf.float32
    result_dtype = images.dtype if method == "nearest" else working
    rows, columns = (tf.cast(matrix(lengths[axis], size[axis]), working) for axis in (0, 1))
    resized = tf.einsum("ah,...hwc->...awc", rows, tf.cast(images, working))
    resized = tf.einsum("bw,...awc->...abc", columns, resized)
    return tf.cast(resized, result_dtype)
