"""Functions of TensorFlow whose second derivatives are wrong or missing, replaced by exact ones.

- `tf.nn.moments` stops the gradient at the mean inside the variance. The first derivative does not
  notice, because its part through the mean is zero; the second derivative loses that part, and
  Hessians through BatchNormalization, LayerNormalization and GroupNormalization come out 7 to 27 %
  wrong, in either mode.
- `tf.image.resize`: the gradient of bilinear resizing is marked as not differentiable, so that its
  part of the Hessian is dropped silently (40 to 90 %); the other methods have no rule and raise.
  Resizing is linear and separable: the replacement multiplies by one matrix for each axis.
- `tf.nn.softsign` has no second derivative and raises.
- `XlaDynamicUpdateSlice`, which the gradient of a slice is made of in what XLA compiles, has no
  gradient: derivatives of a network by its inputs (a residual, a force) could not be trained. It
  gets one here, for good; TensorFlow's own goes before.
- `tf.stop_gradient` makes a value constant for the gradient only. A loss that is evaluated again at
  another point sees another value, so that its gradient is not the derivative of what is compared
  (batch renormalisation, spectral normalisation, targets that a network makes for itself).
  `Constants` keeps the values of one evaluation for the others of the same step.
- `tf.gradients` by tensors from outside of the loss: see `local_gradients`.

While an objective is traced, `exact` puts the replacements in force for the tracing thread alone;
everything outside calls TensorFlow's own functions.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from keras_sfn.backend import local_gradients

# Ops below this name scope stand in for others and are known to be right.
SCOPE = "keras_sfn_exact"

# Name of the ops of `tf.stop_gradient` as layers and users call it.
CONSTANT = "keras_sfn_constant"

_MARK = "_keras_sfn_original"
_thread = threading.local()


class Constants:
    """Values that one evaluation of a loss passed through `tf.stop_gradient`, for later ones.

    Values inside loops and branches cannot be kept and are computed anew.
    """

    def __init__(self) -> None:
        self._held: list[tf.Tensor | None] = []
        self._graph: Any = None
        self._recording = False
        self._next = 0

    def start(self, hold: bool) -> None:
        """Prepares for one evaluation: one that fills the list, or one that reads it."""
        self._recording, self._next = hold, 0
        if hold:
            self._held, self._graph = [], _graph_in_force()

    def stop_gradient(self, value: tf.Tensor) -> tf.Tensor:
        """Returns the value to use in place of `value`, in the order of the calls."""
        if self._recording:
            self._held.append(value if _graph_in_force() is self._graph else None)
            return value
        if not self._held:
            return value
        held = self._held[self._next] if self._next < len(self._held) else None
        self._next += 1
        if held is None:
            return value
        if not held.shape.is_compatible_with(value.shape) or held.dtype != value.dtype:
            raise ValueError(
                "The loss must call `stop_gradient` in the same order at every evaluation within a "
                f"step. Received: shape {value.shape} in the place of {held.shape}. Remove Python "
                "branches on values."
            )
        return held


def _graph_in_force() -> Any:
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


@contextlib.contextmanager
def exact(constants: Constants | None = None, parameters: Sequence[Any] = ()) -> Iterator[None]:
    """Puts the replacements in force in this thread, until the block ends.

    Args:
        constants: What has been passed through `tf.stop_gradient`; None holds nothing.
        parameters: The tensors that stand for the trained variables.
    """
    before, before_parameters = _in_force(), _parameters_in_force()
    _thread.in_force, _thread.parameters = (True, constants), parameters
    try:
        yield
    finally:
        _thread.in_force, _thread.parameters = before, before_parameters


def _parameters_in_force() -> Sequence[Any]:
    return getattr(_thread, "parameters", ())


def _in_force() -> tuple[bool, Constants | None]:
    return getattr(_thread, "in_force", (False, None))


def install() -> None:
    """Puts functions that heed `exact` before TensorFlow's own, once a process."""
    _replace(tf.nn, "moments", _moments)
    _replace(tf.nn, "softsign", _softsign)
    _replace(tf.image, "resize", _resize)
    _replace(tf, "stop_gradient", _stop_gradient)
    _replace(tf, "gradients", _gradients)
    _register("XlaDynamicUpdateSlice", _update_slice_gradient)


def _replace(module: Any, name: str, replacement: Callable[..., Any]) -> None:
    original = getattr(module, name)
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def switch(*args: Any, **kwargs: Any) -> Any:
        if not _in_force()[0]:
            return original(*args, **kwargs)
        return replacement(original, *args, **kwargs)

    setattr(switch, _MARK, original)
    setattr(module, name, switch)


def _register(op_type: str, gradient: Callable[..., Any]) -> None:
    """Gives an op a gradient, unless TensorFlow has one."""
    with contextlib.suppress(KeyError):
        tf.RegisterGradient(op_type)(gradient)


def _update_slice_gradient(op: Any, along: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, None]:
    """The gradient of what XLA makes of a slice's gradient, in the first input and the update."""
    _, update, start = op.inputs
    with tf.GradientTape() as tape:
        tape.watch(along)
        replaced = tf.slice(along, start, tf.shape(update, out_type=start.dtype))
    # The op itself, of zeros, is no public one: TensorFlow makes it as the gradient of the slice.
    inside = tape.gradient(replaced, along, output_gradients=replaced)
    return along - inside, replaced, None


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


def _stop_gradient(original: Callable[..., Any], input: Any, name: str | None = None) -> tf.Tensor:
    del name
    value = original(input, name=CONSTANT)
    constants = _in_force()[1]
    return value if constants is None else constants.stop_gradient(value)


def _gradients(original: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return local_gradients.gradients(original, _parameters_in_force(), *args, **options)


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
