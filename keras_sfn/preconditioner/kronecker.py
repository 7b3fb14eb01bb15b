"""An approximation of the curvature, layer by layer, with which Krylov directions are scaled.

The parameters of one layer are a matrix: its kernels and its bias, stacked along the axis of the
units. For such a matrix, with U_l, s_l and U_r, s_r the eigenvectors and eigenvalues of the mean of
G G' and of G' G over samples G of a Gaussian whose covariance is the Gauss-Newton matrix,

    K = (U_r kron U_l) diag(s_l s_r' / sum(s_l)) (U_r kron U_l)' = U diag(kappa) U'

is the Gauss-Newton block where that is a Kronecker product, and near it for dense, convolutional
and recurrent layers. Of what K lacks (the part of the Hessian with the residuals, terms between
layers, what is no product) the norms of the Hessian's own rows in that basis tell,
rho_i = |e_i' U' H|: estimated as the root mean square of U' H v over vectors v of random signs. On
a deep autoencoder H is up to 250 times K + shift along some directions, and as far below zero along
others. On the other hand rho_i is more than the curvature along e_i where rows overlap. Between the
two,

    P = U diag(sqrt(kappa rho)) U'

and rho alone where kappa vanishes for a whole layer. (P + shift)^-1 v costs four matrix products a
layer.

References: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate
curvature, 2015, https://arxiv.org/abs/1503.05671; Gupta, Koren and Singer, Shampoo, 2018,
https://arxiv.org/abs/1802.09568, for factors from products of whole gradients; Dauphin, de Vries
and Bengio, Equilibrated adaptive learning rates for non-convex optimization, 2015,
https://arxiv.org/abs/1502.04390, for the norms of rows, which are the roots of the diagonal of
|H|^2; George et al., 2018, https://arxiv.org/abs/1806.03884, for correcting the diagonal in the
eigenbasis of the factors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_sfn.backend import collectives
from keras_sfn.krylov import precision, vectors

# A longer side is not rotated: its eigenvectors would take longer than the steps they shorten.
LONGEST_SIDE = 1024


# Relative to the largest, eigenvalues are zero to rounding below the number of rows times the
# distance between numbers, and not above this: in single precision small ones still mean something.
_LARGEST_ROUNDING = 1e-6


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
    """The approximation P, as optimizer variables hold it.

    Attributes:
        blocks: The layers.
        eigenvectors: A square matrix for each rotated side. (One tensor of all would be taken apart
            once more in each step.)
        curvature: Shape (n,), P's eigenvalues.
        in_place: Whether one layer after the other is replaced in the vector, instead of joining
            all at the end. Under XLA a layer's products are all that is held besides; elsewhere it
            takes longer.
    """

    blocks: tuple[Block, ...]
    eigenvectors: Sequence[tf.Tensor]
    curvature: tf.Tensor
    in_place: bool = False

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

    def square(self, vector: tf.Tensor) -> tf.Tensor:
        """Returns the product of P vector with the vector, a scalar."""
        total = tf.zeros((), vector.dtype)
        for block, sides in _sides(self.blocks, self.eigenvectors):
            matrix = _rotate(block.matrix(vector), sides, transpose=True)
            total += tf.reduce_sum(matrix**2 * block.matrix(self.curvature))
        return total

    def _scaled(self, vector: tf.Tensor, factor: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """Returns U factor(curvature) U' vector, with P = U curvature U'."""
        parts = []
        for block, sides in _sides(self.blocks, self.eigenvectors):
            matrix = _rotate(block.matrix(vector), sides, transpose=True)
            matrix = matrix * factor(block.matrix(self.curvature))
            part = tf.reshape(_rotate(matrix, sides, transpose=False), (block.size,))
            if self.in_place:
                vector = vectors.write(vector, block.start, part)
            parts.append(part)
        return vector if self.in_place else tf.concat(parts, axis=0)


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


class Eigenpairs(NamedTuple):
    """Of the mean moments of all rotated sides.

    Attributes:
        vectors: A square matrix for each side.
        values: Shape (side,) for each, ascending; the moments are not divided by the trace.
        vanish: Shape (sides,) integers, how many eigenvalues of each side are zero but for
            rounding: the first ones. Their eigenvectors are any basis of what they span.
    """

    vectors: list[tf.Tensor]
    values: list[tf.Tensor]
    vanish: tf.Tensor


def eigenpairs(blocks: Sequence[Block], mean: tf.Tensor) -> Eigenpairs:
    """Returns eigenvectors and eigenvalues of mean moments.

    TensorFlow's own solver: XLA's takes many times as long. Each of several replicas solves for
    some of the sides, and one message brings the results together, as in Shi et al., A distributed
    data-parallel PyTorch implementation of the distributed Shampoo optimizer, 2023,
    https://arxiv.org/abs/2309.06497.

    Args:
        blocks: The layers.
        mean: Of what `moments` gives.
    """
    scaled = [_scaled_down(matrix) for matrix in unpack(blocks, mean[: -len(blocks)])]
    pairs = collectives.shared(
        [functools.partial(tf.linalg.eigh, matrix) for matrix, _ in scaled],
        [matrix.shape[0] ** 3 for matrix, _ in scaled],
        [[matrix.shape[:1], matrix.shape] for matrix, _ in scaled],
        mean.dtype,
    )
    # Ascending: the last is the largest. The eigenvectors of a zero matrix are the axes.
    epsilon = precision.epsilon(mean.dtype)
    zeros = [
        (values <= min(epsilon * values.shape[0], _LARGEST_ROUNDING) * values[-1])
        & (values[-1] > 0)
        for values, _ in pairs
    ]
    solved = [
        tf.where(zero, epsilon * values[-1], values) * scale
        for (values, _), zero, (_, scale) in zip(pairs, zeros, scaled, strict=True)
    ]
    counts = [tf.reduce_sum(tf.cast(zero, tf.int32)) for zero in zeros]
    vectors_of = [basis for _, basis in pairs]
    return Eigenpairs(vectors_of, solved, tf.stack(counts or [0])[: len(pairs)])


def eigenvalues(blocks: Sequence[Block], pairs: Eigenpairs, mean: tf.Tensor) -> tf.Tensor:
    """Returns kappa, the eigenvalues of the Kronecker products, shape (n,).

    Args:
        blocks: The layers.
        pairs: Of their sides.
        mean: The moments that they are of.
    """
    traces = mean[-len(blocks) :]
    kappas = []
    of_sides = iter(pairs.values)
    for block, trace in zip(blocks, tf.unstack(traces, len(blocks)), strict=True):
        kappa = trace * tf.ones((1, 1), traces.dtype)
        for axis, side in enumerate((block.rows, block.columns)):
            if side not in block.sides:
                # A side that is not rotated has equal shares of the trace.
                kappa = tf.repeat(kappa / side, side, axis=axis)
                continue
            share = tf.math.divide_no_nan(tf.maximum(next(of_sides), 0), trace)
            kappa = kappa * (share[:, None] if axis == 0 else share[None, :])
        kappas.append(tf.reshape(kappa, (block.size,)))
    return tf.concat(kappas, axis=0)


def evened(blocks: Sequence[Block], vanish: tf.Tensor, squares: tf.Tensor) -> tf.Tensor:
    """Returns squares in an eigenbasis with the mean in the place of those that rounding mixes.

    Of a vector's squares along eigenvectors of one eigenvalue, zero, only the mean has a meaning.

    Args:
        blocks: The layers.
        vanish: Of `Eigenpairs`.
        squares: Shape (n,).
    """

    def with_means() -> tf.Tensor:
        parts = []
        number = sum(len(block.sides) for block in blocks)
        for block, sides in _sides(blocks, tf.unstack(vanish, number)):
            matrix = block.matrix(squares)
            for axis, count in sides.items():
                zero = tf.range(matrix.shape[axis]) < count
                zero = zero[:, None] if axis == 0 else zero[None, :]
                total = tf.reduce_sum(tf.where(zero, matrix, 0), axis=axis, keepdims=True)
                mean = total / tf.cast(tf.maximum(count, 1), matrix.dtype)
                matrix = tf.where(zero, mean, matrix)
            parts.append(tf.reshape(matrix, (block.size,)))
        return tf.concat(parts, axis=0)

    evened_out: tf.Tensor = tf.cond(
        tf.reduce_any(vanish > 1), with_means, lambda: tf.identity(squares)
    )
    return evened_out


def _scaled_down(matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a matrix with entries of at most one, and its scale."""
    largest = tf.reduce_max(tf.abs(matrix))
    scale = tf.where(largest > 0, largest, 1)
    return matrix / scale, scale


def between(blocks: Sequence[Block], kappa: tf.Tensor, rho: tf.Tensor) -> tf.Tensor:
    """Returns P's eigenvalues, shape (n,): the geometric means of kappa and rho.

    Where the Gauss-Newton matrix of a layer vanishes (a loss that is linear in what it is made of),
    the norms of the Hessian's rows are all there is.

    Args:
        blocks: The layers.
        kappa: Shape (n,), of the Kronecker product.
        rho: Shape (n,), norms of the Hessian's rows in its eigenbasis.
    """
    sizes = [block.size for block in blocks]
    parts = []
    for own_kappa, own_rho in zip(tf.split(kappa, sizes), tf.split(rho, sizes), strict=True):
        vanishes = tf.reduce_max(own_kappa) <= 0
        parts.append(tf.where(vanishes, own_rho, tf.sqrt(own_kappa * own_rho)))
    return tf.concat(parts, axis=0)


def rotated(
    blocks: Sequence[Block], eigenvectors: Sequence[tf.Tensor], vector: tf.Tensor
) -> tf.Tensor:
    """Returns U' vector, shape (n,).

    Args:
        blocks: The layers.
        eigenvectors: As in a `Preconditioner`.
        vector: Shape (n,).
    """
    parts = [
        tf.reshape(_rotate(block.matrix(vector), sides, transpose=True), (block.size,))
        for block, sides in _sides(blocks, eigenvectors)
    ]
    return tf.concat(parts, axis=0)


def rotated_back(
    blocks: Sequence[Block], eigenvectors: Sequence[tf.Tensor], vector: tf.Tensor
) -> tf.Tensor:
    """Returns U vector, shape (n,); arguments as of `rotated`."""
    parts = [
        tf.reshape(_rotate(block.matrix(vector), sides, transpose=False), (block.size,))
        for block, sides in _sides(blocks, eigenvectors)
    ]
    return tf.concat(parts, axis=0)


def unpack(blocks: Sequence[Block], raveled: tf.Tensor) -> list[tf.Tensor]:
    """Returns one square matrix for each rotated side."""
    sides = [side for block in blocks for side in block.sides]
    parts = tf.split(raveled, [side**2 for side in sides]) if sides else []
    return [tf.reshape(part, (side, side)) for part, side in zip(parts, sides, strict=True)]


def _sides(
    blocks: Sequence[Block], of_sides: Sequence[tf.Tensor]
) -> list[tuple[Block, dict[int, tf.Tensor]]]:
    """Returns each block with what there is for its rotated sides, by axis."""
    matrices = iter(of_sides)
    return [
        (
            block,
            {
                axis: next(matrices)
                for axis, side in enumerate((block.rows, block.columns))
                if side in block.sides
            },
        )
        for block in blocks
    ]


def _rotate(matrix: tf.Tensor, sides: dict[int, tf.Tensor], transpose: bool) -> tf.Tensor:
    """Returns U_l matrix U_r', or U_l' matrix U_r."""
    if 0 in sides:
        matrix = tf.matmul(sides[0], matrix, transpose_a=transpose)
    if 1 in sides:
        matrix = tf.matmul(matrix, sides[1], transpose_b=not transpose)
    return matrix
