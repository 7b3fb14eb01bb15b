"""The rows of a batch: how many there are, and parts of them."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

# Rows of a batch whose curvature is taken under "auto": one in so many, and not fewer than these.
_CURVATURE_SHARE = 16
_LEAST_CURVATURE_ROWS = 256


def count(data: Any) -> tf.Tensor:
    """Returns the number of rows of the first part of a batch, a scalar tensor."""
    first = _first_part(data)
    if isinstance(first, tf.RaggedTensor):
        return tf.cast(first.nrows(), tf.int32)
    return tf.cast(tf.shape(first)[0], tf.int32)


def obstacle(data: Any) -> str | None:
    """Returns why no rows of a batch can be taken for all of them, or None where they can."""
    parts = [part for part in keras.tree.flatten(data) if part is not None]
    if any(isinstance(part, (tf.SparseTensor, tf.RaggedTensor)) for part in parts):
        return "a part of the batch is sparse or ragged"
    shapes = [tf.TensorShape(part.shape) for part in parts]
    if any(shape.rank == 0 for shape in shapes):
        return "a part of the batch is a scalar"
    counts = {shape[0] for shape in shapes if shape.rank} - {None}
    if len(counts) > 1:
        return f"the parts of the batch have {sorted(counts)} rows"
    return None


def static_count(data: Any) -> int | None:
    """Returns the number of rows where it is known before the step runs, else None."""
    known = _first_part(data).shape[0]
    return None if known is None else int(known)


def first(data: Any, wanted: Any) -> Any:
    """Returns the first rows of each part of a batch; None stays None."""
    return keras.tree.map_structure(lambda part: None if part is None else part[:wanted], data)


def take(data: Any, start: Any, wanted: Any) -> Any:
    """Returns so many rows from `start` on of each part of a batch; None stays None."""

    def rows_of(part: Any) -> Any:
        if part is None:
            return None
        # Whole sizes, since XLA cannot work out a rest where the start varies.
        tail = _row_shape(part)
        return tf.slice(part, [start, *[0] * len(tail)], [wanted, *tail])

    return keras.tree.map_structure(rows_of, data)


def padded(data: Any, least: int) -> Any:
    """Returns a batch with rows of zeros after its own, where it may have fewer than `least`."""
    if static_count(data) is not None:
        return data
    return with_zeros(data, tf.maximum(least - count(data), 0))


def with_zeros(data: Any, missing: tf.Tensor) -> Any:
    """Returns a batch with so many rows of zeros after its own; None stays None."""

    def pad(part: Any) -> Any:
        if part is None:
            return None
        return tf.concat([part, tf.zeros([missing, *_row_shape(part)], part.dtype)], axis=0)

    return keras.tree.map_structure(pad, data)


def of_curvature(wanted: int | str, known: Any) -> Any:
    """Returns of how many rows of a batch the curvature is taken.

    Args:
        wanted: A number of rows, or `"auto"`: a sixteenth, and at least 256.
        known: Rows of the batch, an integer where that is known, or a scalar tensor.
    """
    if isinstance(known, int):
        if wanted == "auto":
            wanted = max(known // _CURVATURE_SHARE, _LEAST_CURVATURE_ROWS)
        return min(int(wanted), known)
    if wanted == "auto":
        wanted = tf.maximum(known // _CURVATURE_SHARE, _LEAST_CURVATURE_ROWS)
    return tf.minimum(wanted, known)


def of_part(index: Any, parts: int, known: Any) -> tuple[Any, Any]:
    """Returns start and length of the i-th part of a batch; the parts together are all rows.

    They overlap where the rows of one would be too few.

    Args:
        index: Scalar integer, i.
        parts: How many there are, at least 2.
        known: Rows of the batch, an integer where that is known, or a scalar tensor.
    """
    if isinstance(known, int):
        size = min(max(-(-known // parts), _LEAST_CURVATURE_ROWS), known)
    else:
        size = tf.minimum(tf.maximum(-(-known // parts), _LEAST_CURVATURE_ROWS), known)
    return index * (known - size) // (parts - 1), size


def _first_part(data: Any) -> Any:
    return next(part for part in keras.tree.flatten(data) if part is not None)


def _row_shape(part: tf.Tensor) -> list[Any]:
    dynamic = tf.shape(part)
    return [n if n is not None else dynamic[1 + i] for i, n in enumerate(part.shape[1:])]
