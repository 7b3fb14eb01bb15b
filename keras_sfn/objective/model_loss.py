"""The training loss of a compiled Keras model on one batch, as a function without arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def batch_loss(
    model: keras.Model, x: Any, y: Any, sample_weight: Any, *, training: bool = True
) -> Callable[[], tuple[tf.Tensor, Any]]:
    """Returns a function that gives the loss `fit` minimises, and the predictions.

    The loss has everything that `compile` and the layers put into it: loss weights, sample weights,
    regularisation, `add_loss`.
    """

    def loss_fn() -> tuple[tf.Tensor, Any]:
        takes_training = model._call_has_training_arg
        y_pred = model(x, training=training) if takes_training else model(x)
        # As in Keras's train step; it also serves models whose `compute_loss` is of an older form.
        loss = model._compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
        )
        return loss, y_pred

    return loss_fn


def check_batch(model: keras.Model, x: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """Returns a batch as tensors; raises unless the model can evaluate its loss on it.

    Raises:
        ValueError: The model is not compiled or not built, or the parts differ in length.
    """
    if not model.compiled:
        raise ValueError(
            f"`model` must be compiled, since its loss is asked for. Received: {model.name}, not "
            "compiled. Call `model.compile(loss=...)` first."
        )
    if not model.built:
        raise ValueError(
            f"`model` must be built. Received: {model.name}, without weights yet. Call it on a "
            "batch, or give it a `keras.Input`, first."
        )
    if isinstance(x, tf.data.Dataset):
        raise ValueError(
            "`x` must be one batch of arrays or tensors. Received: a tf.data.Dataset. Pass "
            "`x, y = next(iter(dataset))`."
        )
    batch = keras.tree.map_structure(
        lambda part: None if part is None else tf.convert_to_tensor(part), (x, y, sample_weight)
    )
    lengths = {
        name: {int(part.shape[0]) for part in keras.tree.flatten(parts) if part is not None}
        for name, parts in zip(("x", "y", "sample_weight"), batch, strict=True)
    }
    if len(set().union(*lengths.values())) != 1:
        found = ", ".join(f"{name}: {sorted(rows)}" for name, rows in lengths.items() if rows)
        raise ValueError(
            f"`x`, `y` and `sample_weight` must have the same number of rows. Received: {found}."
        )
    return batch
