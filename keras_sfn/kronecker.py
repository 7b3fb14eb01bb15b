"""A Kronecker-factored approximation of the curvature, with which Krylov directions are scaled.

The parameters of one layer are a matrix: its kernels and its bias, stacked along the axis of the
units. For such a matrix, with U_l, s_l and U_r, s_r the eigenvectors and eigenvalues of the mean of
G G' and of G' G over samples G of a Gaussian whose covariance is the Gauss-Newton matrix,

    P = (U_r kron U_l) diag(s_l s_r' / sum(s_l)) (U_r kron U_l)'

is the Gauss-Newton block where that is a Kronecker product, and near it for dense, convolutional
and recurrent layers. (P + shift)^-1 v costs four matrix products a layer.

References: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate
curvature, 2015, https://arxiv.org/abs/1503.05671; Gupta, Koren and Singer, Shampoo, 2018,
https://arxiv.org/abs/1802.09568, for factors from products of whole gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

# A longer side is not rotated: its eigenvectors would take longer than the steps they shorten.
LONGEST_SIDE = 1024


class Block(NamedTuple):
    """One layer's parameters: a matrix that is a piece of the flat vector.

    Attributes:
        start: Index of its first coordinate.
        rows: Of the matrix.
        columns: Of the matrix, units of the layer.
    """

    start: int
    rows: int
    columns: int

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.rows * self.columns

    @property
    def sides(self) -> tuple[int, ...]:
        """Lengths of the sides that are rotated."""
        return tuple(side for side in (self.rows, self.columns) if 1 < side <= LONGEST_SIDE)

    def matrix(self, vector: tf.Tensor) -> tf.Tensor:
        """Returns this block of a vector of shape (n,), shape (rows, columns)."""
        return tf.reshape(vector[self.start : self.start + self.size], (self.rows, self.columns))


class Preconditioner(NamedTuple):
    """The approximation, as optimizer variables hold it.

    Attributes:
        blocks: The layers.
        eigenvectors: Those of all rotated sides, one matrix after the other, raveled.
        eigenvalues: Those of all rotated sides, then the trace of each block.
    """

    blocks: tuple[Block, ...]
    eigenvectors: tf.Tensor
    eigenvalues: tf.Tensor

    def solve(self, vector: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
        """Returns (P + shift)^-1 vector.

        Args:
            vector: Shape (n,).
            shift: Positive scalar, in units of curvature.
        """
        return self._scaled(vector, lambda curvature: 1 / (curvature + shift))

    def multiply(self, vector: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
        """Returns (P + shift) vector; arguments as in `solve`."""
        return self._scaled(vector, lambda curvature: curvature + shift)

    def _scaled(self, vector: tf.Tensor, factor: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """Returns U factor(curvature) U' vector, with P = U curvature U'."""
        scaled = []
        for block, sides, trace in self._sides():
            matrix = block.matrix(vector)
            curvature = trace * tf.ones((1, 1), vector.dtype)
            for axis, (vectors, values) in sides.items():
                matrix = _rotate(matrix, vectors, axis, transpose=True)
                share = tf.math.divide_no_nan(values, trace)
                curvature = curvature * (share[:, None] if axis == 0 else share[None, :])
            # A side that is not rotated has equal shares of the trace.
            alike = [n for axis, n in enumerate((block.rows, block.columns)) if axis not in sides]
            matrix = matrix * factor(curvature / float(np.prod(alike)))
            for axis, (vectors, _) in sides.items():
                matrix = _rotate(matrix, vectors, axis, transpose=False)
            scaled.append(tf.reshape(matrix, (block.size,)))
        return tf.concat(scaled, axis=0)

    def largest(self) -> tf.Tensor:
        """Returns the largest eigenvalue of P, a scalar."""
        found = []
        for block, sides, trace in self._sides():
            curvature = trace
            for _, values in sides.values():
                curvature = tf.math.divide_no_nan(curvature * tf.reduce_max(values), trace)
            alike = [n for axis, n in enumerate((block.rows, block.columns)) if axis not in sides]
            found.append(curvature / float(np.prod(alike)))
        return tf.reduce_max(tf.stack(found))

    def _sides(self) -> list[tuple[Block, dict[int, tuple[tf.Tensor, tf.Tensor]], tf.Tensor]]:
        """Returns each block with eigenvectors and eigenvalues by axis, and its trace."""
        matrices = iter(unpack(self.blocks, self.eigenvectors))
        sizes = [side for block in self.blocks for side in block.sides]
        *values, traces = tf.split(self.eigenvalues, [*sizes, len(self.blocks)])
        following = iter(values)
        return [
            (
                block,
                {
                    axis: (next(matrices), next(following))
                    for axis, side in enumerate((block.rows, block.columns))
                    if side in block.sides
                },
                traces[index],
            )
            for index, block in enumerate(self.blocks)
        ]


def layer_blocks(variables: Sequence[keras.Variable]) -> tuple[Block, ...]:
    """Returns the blocks of a flat vector over `variables`.

    Neighbours of one layer with the same number of units, as kernel, recurrent kernel and bias
    have, make one matrix.
    """
    blocks: list[Block] = []
    layer = None
    start = 0
    for variable in variables:
        shape = [int(side) for side in variable.shape] or [1]
        rows, columns = int(np.prod(shape[:-1])), shape[-1]
        owner = variable.path.rpartition("/")[0]
        if blocks and owner == layer and blocks[-1].columns == columns:
            blocks[-1] = blocks[-1]._replace(rows=blocks[-1].rows + rows)
        else:
            blocks.append(Block(start, rows, columns))
        layer, start = owner, start + rows * columns
    return tuple(blocks)


def moments_length(blocks: Sequence[Block]) -> int:
    """Returns the length of what `moments` gives."""
    return sum(side**2 for block in blocks for side in block.sides) + len(blocks)


def moments(blocks: Sequence[Block], sample: tf.Tensor) -> tf.Tensor:
    """Returns G G' and G' G of all rotated sides, raveled, then the trace of each block.

    Args:
        blocks: The layers.
        sample: Shape (n,).
    """
    products, traces = [], []
    for block in blocks:
        matrix = block.matrix(sample)
        traces.append(tf.reduce_sum(matrix**2))
        for axis, side in enumerate((block.rows, block.columns)):
            if side in block.sides:
                product = tf.matmul(matrix, matrix, transpose_a=axis == 1, transpose_b=axis == 0)
                products.append(tf.reshape(product, (side**2,)))
    return tf.concat([*products, tf.stack(traces)], axis=0)


def factorise(blocks: Sequence[Block], mean: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `eigenvectors` and `eigenvalues` of a `Preconditioner` from mean moments.

    TensorFlow's own solver: XLA's takes many times as long.
    """
    # Where no side is rotated there are none.
    vectors, values = [mean[:0]], []
    traces = mean[-len(blocks) :]
    for matrix in unpack(blocks, mean[: -len(blocks)]):
        largest = tf.reduce_max(tf.abs(matrix))
        scale = tf.where(largest > 0, largest, 1)
        found, rotation = tf.linalg.eigh(matrix / scale)
        values.append(tf.maximum(found, 0) * scale)
        vectors.append(tf.reshape(rotation, (-1,)))
    return tf.concat(vectors, axis=0), tf.concat([*values, traces], axis=0)


def unpack(blocks: Sequence[Block], raveled: tf.Tensor) -> list[tf.Tensor]:
    """Returns one square matrix for each rotated side."""
    sides = [side for block in blocks for side in block.sides]
    parts = tf.split(raveled, [side**2 for side in sides]) if sides else []
    return [tf.reshape(part, (side, side)) for part, side in zip(parts, sides, strict=True)]


def _rotate(matrix: tf.Tensor, vectors: tf.Tensor, axis: int, transpose: bool) -> tf.Tensor:
    if axis == 0:
        return tf.matmul(vectors, matrix, transpose_a=transpose)
    return tf.matmul(matrix, vectors, transpose_b=not transpose)
