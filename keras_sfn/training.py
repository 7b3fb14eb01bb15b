"""Hands an optimizer of this package the loss of the batch inside Keras's `fit`.

Keras's train step gives an optimizer gradients only. `install` puts a train step in front of
`keras.Model.train_step` that looks at the model's optimizer: one of ours gets the loss as a
function of the parameters, every other goes to Keras's own train step untouched. Subclasses that
call `super().train_step` come through here too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_sfn import base_optimizer, failures, micro_batches, model_loss

_MARK = "_keras_sfn_original"


def install() -> None:
    """Wraps `train_step` and `make_train_function` of `keras.Model`, once a process."""
    if not hasattr(keras.Model.train_step, _MARK):
        _wrap_train_step()
        _wrap_make_train_function()


def _wrap_train_step() -> None:
    original = keras.Model.train_step

    @functools.wraps(original)
    def train_step(self: keras.Model, data: Any) -> dict[str, Any]:
        if _uses_ours(self.optimizer):
            return _train_step(self, data)
        return original(self, data)

    setattr(train_step, _MARK, original)
    keras.Model.train_step = train_step


def _wrap_make_train_function() -> None:
    original = keras.Model.make_train_function

    @functools.wraps(original)
    def make_train_function(self: keras.Model, force: bool = False) -> Any:
        original(self, force)
        if _uses_ours(self.optimizer) and not hasattr(self.train_function, _MARK):
            self.train_function = _watch(self.train_function, self.optimizer)
        return self.train_function

    keras.Model.make_train_function = make_train_function


def _watch(
    train_function: Callable[[Any], Any], optimizer: base_optimizer.NewtonOptimizer
) -> Callable[[Any], Any]:
    """Looks at the optimizer's failures after each call, which may be of several steps.

    Outside the compiled function, because XLA leaves out assertions and cannot warn.
    """

    def watched(iterator: Any) -> Any:
        with failures.watched():
            logs = train_function(iterator)
        optimizer.raise_if_failing()
        return logs

    setattr(watched, _MARK, train_function)
    return watched


def _uses_ours(optimizer: Any) -> bool:
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) and isinstance(
        optimizer.inner_optimizer, base_optimizer.NewtonOptimizer
    ):
        raise ValueError(
            "`keras_sfn` optimizers cannot be wrapped in a `LossScaleOptimizer`: it would scale "
            f"steps instead of gradients. Received: {optimizer.inner_optimizer.name} in "
            "a LossScaleOptimizer, as `compile` does under the dtype policy mixed_float16. Use "
            "the policy `mixed_bfloat16` or `float32`."
        )
    return isinstance(optimizer, base_optimizer.NewtonOptimizer)


def _train_step(model: keras.Model, data: Any) -> dict[str, Any]:
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    optimizer = model.optimizer
    # Keras's own train step creates missing weights in its forward pass. Ours runs that pass in a
    # stateless scope, where none can be created. Does nothing where all is built.
    model._symbolic_build(data_batch=(x, y, sample_weight))
    batch_size = _batch_size(x)
    loss = _loss(model, (x, y, sample_weight))
    curvature = None
    if optimizer.curvature_batch_size is not None:
        _refuse_sums(model, "curvature_batch_size")
        rows = tf.minimum(optimizer.curvature_batch_size, batch_size)
        curvature = _loss(model, _first_rows((x, y, sample_weight), rows))
    value, y_pred = optimizer.step(
        loss,
        model.trainable_variables,
        curvature_loss_fn=curvature,
        can_compile=all(layer.supports_jit for layer in model._flatten_layers()),
    )
    # Private, as in Keras's own train step: a model may hide it from `metrics`, or keep another
    # metric of the same name there.
    model._loss_tracker.update_state(value, sample_weight=batch_size)
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def _loss(model: keras.Model, data: Any) -> Any:
    """The loss on a batch, in slices where that is asked for and the batch is larger."""

    def loss_of(part: Any) -> base_optimizer.LossFunction:
        return model_loss.batch_loss(model, *part)

    size = model.optimizer.micro_batch_size
    if size is None:
        return loss_of(data)
    _refuse_sums(model, "micro_batch_size")
    slices = micro_batches.Slices(data, size, loss_of)
    rows = slices.rows()
    return loss_of(data) if isinstance(rows, int) and rows <= size else slices


def _batch_size(x: Any) -> tf.Tensor:
    first = next(part for part in keras.tree.flatten(x) if part is not None)
    return tf.shape(first)[0]


def _first_rows(data: Any, rows: tf.Tensor) -> Any:
    return keras.tree.map_structure(lambda part: None if part is None else part[:rows], data)


def _refuse_sums(model: keras.Model, option: str) -> None:
    for loss in keras.tree.flatten(model.loss):
        reduction = getattr(loss, "reduction", None)
        if reduction in ("sum", "mean_with_sample_weight"):
            raise ValueError(
                f"`{option}` needs losses that are means over the rows of a batch, so that a part "
                f"of the rows stands for all. Received a loss with reduction={reduction!r}: "
                f"{loss.name}. Use the default reduction 'sum_over_batch_size', or {option}=None."
            )
