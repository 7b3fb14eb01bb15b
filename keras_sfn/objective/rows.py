"""The rows of a batch: how many there are, and parts of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

# Into how many parts a batch is divided at most, some of which give the curvature; how many
# predictions the loss has in a part at least, and how many rows there are.
MOST_PARTS = 16
_LEAST_PREDICTIONS = 256
_LEAST_ROWS = 16


class Place(NamedTuple):
    """Where the rows of a loss lie among those of the batch of which it is a part.

    Attributes:
        before: Rows of the batch that come before, an integer or scalar tensor.
        rows: Of this loss, likewise.
        total: Of the batch, likewise. None where that is not known, and `before` is then the number
            of a replica.
        weight: Scalar, by which the sum over the parts multiplies what is computed from this loss.
    """

    before: Any
    rows: Any
    total: Any
    weight: Any = 1.0


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


def refuse_unknown_shapes(data: Any) -> None:
    """Raises where not even the number of axes of a part of a batch is known.

    Raises:
        ValueError: So it is.
    """
    for part in keras.tree.flatten(data):
        if part is not None and tf.TensorShape(part.shape).rank is None:
            raise ValueError(
                "The parts of a batch must have a known number of axes, with the rows along the "
                "first. Received: a tensor of unknown shape, as a `tf.data.Dataset` gives that was "
                "made `from_generator` with `output_types` alone. Pass `output_signature`, with "
                "a `tf.TensorSpec` for each part."
            )


def static_count(data: Any) -> int | None:
    """Returns the number of rows where it is known before the step runs, else None."""
    known = _first_part(data).shape[0]
    return None if known is None else int(known)


def first(data: Any, wanted: Any) -> Any:
    """Returns the first rows of each part of a batch; None stays None."""
    return keras.tree.map_structure(lambda part: None if part is None else part[:wanted], data)


def spaced(data: Any, wanted: Any, known: Any) -> Any:
    """Returns so many rows, evenly spaced over a batch; None stays None.

    A batch may be sorted: neighbours tell less of all its rows.

    Args:
        data: The batch.
        wanted: How many rows, at most all.
        known: Rows of the batch.
    """
    return spaced_of_part(data, wanted, known, 0, known)


def spaced_of_part(data: Any, wanted: Any, known: Any, before: Any, own: Any) -> Any:
    """Returns those of the rows that `spaced` takes from a batch that lie in a part of it.

    Args:
        data: The part.
        wanted: How many rows are taken from all of the batch.
        known: Rows of the batch.
        before: Rows of the batch before the part.
        own: Rows of the part.
    """
    start, end = (spaced_before(row, wanted, known) for row in (before, before + own))
    turns = tf.range(tf.cast(start, tf.int64), tf.cast(end, tf.int64))
    indices = turns * tf.cast(known, tf.int64) // tf.cast(wanted, tf.int64)
    return _gathered(data, indices - tf.cast(before, tf.int64))


def spaced_before(row: Any, wanted: Any, known: Any) -> Any:
    """Returns how many of the rows that `spaced` takes come before a row."""
    if all(isinstance(value, int) for value in (row, wanted, known)):
        return -(-row * wanted // known)
    row, wanted, known = (tf.cast(value, tf.int64) for value in (row, wanted, known))
    return tf.cast(-(-row * wanted // tf.maximum(known, 1)), tf.int32)


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


def of_curvature(wanted: int, known: Any) -> Any:
    """Returns of how many rows of a batch the curvature is taken.

    Args:
        wanted: At most so many.
        known: Rows of the batch, an integer where that is known, or a scalar tensor.
    """
    return min(wanted, known) if isinstance(known, int) else tf.minimum(wanted, known)


def least(predictions: int) -> int:
    """Returns how many rows a part of a batch has at least.

    Args:
        predictions: Of the loss, for each row.
    """
    return max(-(-_LEAST_PREDICTIONS // predictions), _LEAST_ROWS)


def number_of_parts(known: Any, predictions: int = 1) -> Any:
    """Returns into how many parts a batch is divided, some of which give the curvature.

    Args:
        known: Rows of the batch, an integer where that is known, or a scalar tensor.
        predictions: Of the loss, for each row.
    """
    most = known // least(predictions)
    if isinstance(known, int):
        return min(max(most, 1), MOST_PARTS)
    return tf.clip_by_value(most, 1, MOST_PARTS)


def of_part(index: Any, parts: int, known: Any, predictions: int = 1) -> tuple[Any, Any]:
    """Returns start and length of the i-th part of a batch; the parts together are all rows.

    They overlap where the rows of one would be too few.

    Args:
        index: Scalar integer, i.
        parts: How many there are, at least 2.
        known: Rows of the batch, an integer where that is known, or a scalar tensor.
        predictions: Of the loss, for each row.
    """
    if isinstance(known, int):
        size = min(max(-(-known // parts), least(predictions)), known)
    else:
        size = tf.minimum(tf.maximum(-(-known // parts), least(predictions)), known)
    return index * (known - size) // (parts - 1), size


def every(data: Any, index: tf.Tensor, count: Any, known: Any) -> Any:
    """Returns the rows i, i + count, i + 2 count, ... of each part of a batch; None stays None.

    A batch may be sorted: neighbours tell less of all its rows.

    Args:
        data: The batch.
        index: Scalar integer, i.
        count: Integer or scalar integer, at most the number of rows.
        known: Rows of the batch, an integer where that is known, or a scalar tensor.
    """
    size = known // count

    def rows_of(part: Any) -> Any:
        if part is None:
            return None
        tail = _row_shape(part)
        whole = tf.slice(part, [0] * (1 + len(tail)), [size * count, *tail])
        return tf.gather(tf.reshape(whole, [size, count, *tail]), index, axis=1)

    return keras.tree.map_structure(rows_of, data)


def every_before(row: Any, index: Any, count: Any, known: Any) -> Any:
    """Returns how many of the rows that `every` takes come before a row; arguments as there."""
    taken = tf.minimum(row, known // count * count)
    return tf.maximum(taken - index + count - 1, 0) // count


def every_of_part(data: Any, index: Any, count: Any, known: Any, before: Any, own: Any) -> Any:
    """Returns those of the rows that `every` takes from a batch that lie in a part of it.

    Args:
        data: The part.
        index: As of `every`.
        count: As of `every`.
        known: As of `every`.
        before: Rows of the batch before the part.
        own: Rows of the part.
    """
    turns = tf.range(*(every_before(row, index, count, known) for row in (before, before + own)))
    return _gathered(data, index + turns * count - before)


def _gathered(data: Any, indices: tf.Tensor) -> Any:
    return keras.tree.map_structure(
        lambda part: None if part is None else tf.gather(part, indices), data
    )


def _first_part(data: Any) -> Any:
    parts = [part for part in keras.tree.flatten(data) if part is not None]
    # A scalar has no rows.
    return next(part for part in parts if tf.TensorShape(part.shape).rank != 0)


def _row_shape(part: tf.Tensor) -> list[Any]:
    dynamic = tf.shape(part)
    return [n if n is not None else dynamic[1 + i] for i, n in enumerate(part.shape[1:])]
