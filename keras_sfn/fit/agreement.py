"""Whether all workers train the same model on batches of the same structure.

Workers that do not would wait for each other's sums for ever, or add up what does not belong
together. So they compare what they have before their first step.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_sfn.backend import collectives


def require(model: keras.Model, iterator: Any) -> None:
    """Raises on all workers where one of them trains something else than the first.

    Args:
        model: What this worker trains.
        iterator: Its batches.

    Raises:
        ValueError: One differs.
    """
    strategy = model.distribute_strategy
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return
    if not hasattr(iterator, "element_spec"):
        return  # One batch, as `train_on_batch` gets it: nothing tells of its like.
    found = _description(model, iterator)
    digests = np.array([zlib.crc32(text.encode()) for text in found.values()], np.int64)
    with strategy.scope():
        everyone = collectives.gathered(tf.constant(digests)).numpy()
    different = everyone != everyone[0]
    if not different.any():
        return
    replicas = ", ".join(str(index) for index in np.flatnonzero(different.any(axis=1)))
    parts = [name for name, differs in zip(found, different.any(axis=0), strict=True) if differs]
    own = "; ".join(f"{name}: {found[name]}" for name in parts)
    raise ValueError(
        "All workers must train the same model with the same arguments, on batches of the same "
        f"structure. Replica {replicas} differs from replica 0 in its {' and '.join(parts)}. "
        f"Received here: {own}. Start all workers with the same program and the same data set."
    )


def _description(model: keras.Model, iterator: Any) -> dict[str, str]:
    """Returns what has to be alike, in words."""
    specs = tf.nest.flatten(iterator.element_spec, expand_composites=True)
    batch = [f"{spec.dtype.name}{_tail(spec.shape)}" for spec in specs]
    variables = [f"{v.dtype}{tuple(v.shape)}" for v in model.trainable_variables]
    config = model.optimizer.get_config()
    return {
        "variables": " ".join(variables),
        "batch": f"{tf.nest.map_structure(lambda _: '', iterator.element_spec)} {' '.join(batch)}",
        "optimizer": json.dumps(config, sort_keys=True, default=str),
    }


def _tail(shape: tf.TensorShape) -> Any:
    """The shape of a row: workers may have different numbers of rows."""
    return shape if shape.rank is None else tuple(shape[1:])
