"""A matrix of few long rows that a loop fills row by row, in blocks of rows.

Of one tensor of shape (k, n) each pass reads every row, filled or not, and XLA keeps a second copy
as soon as the code that reads it lies in a branch. Blocks that hold no row yet are skipped, and
none is ever copied. Every function here works inside a `tf.while_loop` that carries the blocks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

from keras_sfn.krylov import loops

# Each of shape (rows of a block, n); the last may have fewer rows.
Blocks: TypeAlias = tuple[tf.Tensor, ...]

# Few rows a block leave few unused ones to read; few blocks keep the program short.
_ROWS = 4
_MOST_BLOCKS = 12


def zeros(rows: int, size: int, dtype: tf.DType) -> Blocks:
    """Returns blocks of `rows` rows in all, zero."""
    height = max(_ROWS, -(-rows // _MOST_BLOCKS))
    starts = range(0, rows, height)
    return tuple(tf.zeros((min(height, rows - start), size), dtype) for start in starts)


def set_row(blocks: Blocks, index: tf.Tensor, row: tf.Tensor) -> Blocks:
    """Returns the blocks with row `index` replaced."""
    filled: list[tf.Tensor] = []
    for start, block in _with_starts(blocks):
        place = index - start
        inside = (place >= 0) & (place < block.shape[0])
        filled.extend(
            loops.at_most_once(inside, functools.partial(_write, place=place, row=row), block)
        )
    return tuple(filled)


def _write(block: tf.Tensor, place: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor]:
    return (tf.tensor_scatter_nd_update(block, [[place]], row[None]),)


def project(blocks: Blocks, vector: tf.Tensor) -> tf.Tensor:
    """Returns the products of all rows with a vector of shape (n,), shape (k,)."""
    return tf.concat([tf.linalg.matvec(block, vector) for block in blocks], axis=0)


def combine(blocks: Blocks, coefficients: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the rows, each times its coefficient, shape (n,)."""
    parts = tf.split(coefficients, [int(block.shape[0]) for block in blocks])
    terms = zip(blocks, parts, strict=True)
    return tf.add_n([tf.linalg.matvec(block, part, transpose_a=True) for block, part in terms])


def remove(blocks: Blocks, vector: tf.Tensor, wanted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Makes a vector orthogonal to the rows of some blocks, block after block.

    Within a block the pass is classical Gram-Schmidt, from block to block modified Gram-Schmidt.

    Args:
        blocks: Orthonormal rows, then zero ones.
        vector: Shape (n,).
        wanted: Shape (number of blocks,) booleans.

    Returns:
        The coefficients of what was removed, shape (k,), and what is left, shape (n,).
    """
    coefficients = []
    for index, block in enumerate(blocks):
        nothing = tf.zeros((block.shape[0],), vector.dtype)
        remove_block = functools.partial(_remove_block, block)
        found, vector = loops.at_most_once(wanted[index], remove_block, nothing, vector)
        coefficients.append(found)
    return tf.concat(coefficients, axis=0), vector


def with_any(blocks: Blocks, rows: tf.Tensor) -> tf.Tensor:
    """Returns which blocks hold one of the rows, shape (number of blocks,) booleans.

    Args:
        blocks: The blocks.
        rows: Shape (k,) booleans.
    """
    parts = tf.split(rows, [int(block.shape[0]) for block in blocks])
    return tf.stack([tf.reduce_any(part) for part in parts])


def rows_of(blocks: Blocks, wanted: tf.Tensor) -> tf.Tensor:
    """Returns which rows lie in the wanted blocks, shape (k,) booleans."""
    return tf.repeat(wanted, [int(block.shape[0]) for block in blocks])


def _remove_block(block: tf.Tensor, _: tf.Tensor, vector: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    found = tf.linalg.matvec(block, vector)
    return found, vector - tf.linalg.matvec(block, found, transpose_a=True)


def _with_starts(blocks: Sequence[tf.Tensor]) -> list[tuple[int, tf.Tensor]]:
    starts, start = [], 0
    for block in blocks:
        starts.append((start, block))
        start += int(block.shape[0])
    return starts
