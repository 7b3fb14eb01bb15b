"""The Krylov process that a Lanczos recurrence without orthogonalisation hides.

The eigenvalues of T and the squares of their vectors' first components are the nodes and weights
of a Gauss quadrature for the spectral measure of the operator A at the start vector. Without
orthogonalisation T is still, to rounding, what exact arithmetic would give for a nearby measure:
one in which an eigenvalue to which a Ritz value has converged is a cluster of nodes, whose weights
add up to its own. All of them but one are called ghosts. With m rows T then tells no more of A than
with fewer, but what it tells is right.

So clusters are merged, and the Krylov process of the merged measure, k < m rows of it, is run with
full orthogonalisation, in a space of m numbers. It is that of A in exact arithmetic where the
measure has some nodes more than k. A row of it is a polynomial in A times the start, thus by

    q_j = p_j(A) q_0 = sum_i (p_j(T) e_0)_i v_i

a sum of the rows v_i that the recurrence has made: no vector is orthogonalised at any time.

Two nodes are one where the error of one product with A would move the one to the other: where the
distance times the root of the smaller weight is below the precision, in units of |A|. For networks
in single precision 0.5 to 5 of the precision gave the same steps. (With less, ghosts are left; with
more, nodes in between disappear.) Eigenvalues and first components are therefore needed to more
digits than the vectors have, and all is in double precision here. (For double precision itself 0.3
to 100 did not differ.)

References: Greenbaum, Behavior of slightly perturbed Lanczos and conjugate-gradient recurrences,
Linear Algebra and its Applications 113 (1989); Cullum and Willoughby, Lanczos Algorithms for Large
Symmetric Eigenvalue Computations (1985), chapter 4, for ghosts; Druskin and Knizhnerman, Krylov
subspace approximation of eigenpairs and matrix functions in exact and computer arithmetic,
Numerical Linear Algebra with Applications 2 (1995); Golub and Meurant, Matrices, Moments and
Quadrature with Applications (2010).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# In units of the precision and the operator's norm.
_ONE_NODE = 1.0

# What the eigenvalues and first components here can tell apart, in units of their own precision.
_LEAST = 64

_EPSILON = float(np.finfo(np.float64).eps)
_MOST_SWEEPS = 30


class Measure(NamedTuple):
    """The spectral measure of an operator at a start vector, as far as T knows it.

    Attributes:
        nodes: Shape (m,), float64; they mean nothing where the weight is zero.
        weights: Shape (m,), float64, their sum is 1; zero for a ghost, whose weight another has.
        stand_ins: Shape (m,), integers: the node that stands for each eigenvalue of T.
        eigenvectors: Shape (m, m), float64, those of T as rows.
    """

    nodes: tf.Tensor
    weights: tf.Tensor
    stand_ins: tf.Tensor
    eigenvectors: tf.Tensor

    def number(self) -> tf.Tensor:
        """Returns the number of nodes."""
        return tf.math.count_nonzero(self.weights, dtype=tf.int32)


class Process(NamedTuple):
    """The Krylov process of a measure.

    Attributes:
        projected: Shape (k, k), float64, the tridiagonal matrix.
        rows: Shape (k, m), float64: orthonormal vectors, as sums of those that T belongs to.
    """

    projected: tf.Tensor
    rows: tf.Tensor


def measure(tridiagonal: tf.Tensor, precision: float) -> Measure:
    """Returns the measure that T stands for, without ghosts.

    Args:
        tridiagonal: T, shape (m, m), float64; finite. Rows and columns at the end may be zero: they
            have no weight.
        precision: Of the vectors from which T was made, the distance from 1 to the next number.
    """
    values, eigenvectors = eigenpairs(tridiagonal)
    weights = tf.square(eigenvectors[:, 0])
    least = max(_ONE_NODE * precision, _LEAST * _EPSILON) * _largest(values)
    stand_ins = _stand_ins(values, weights, least)
    size = int(values.shape[0])
    total = tf.math.unsorted_segment_sum(weights, stand_ins, size)
    moment = tf.math.unsorted_segment_sum(weights * values, stand_ins, size)
    return Measure(tf.math.divide_no_nan(moment, total), total, stand_ins, eigenvectors)


def krylov(of: Measure, rank: int, number: tf.Tensor) -> Process:
    """Returns the Krylov process of a measure.

    Args:
        of: The measure, of m nodes at most.
        rank: k <= m.
        number: Scalar integer, how many of the k rows are wanted: the others are zero.
    """
    places = tf.range(rank)

    def body(
        index: tf.Tensor, rows: tf.Tensor, row: tf.Tensor, diagonal: tf.Tensor, links: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        here = tf.equal(places, index)
        rows = tf.where(here[:, None], row, rows)
        product = of.nodes * row
        diagonal = tf.where(here, tf.reduce_sum(row * product), diagonal)
        for _ in range(2):  # Twice is enough (Kahan, in Parlett).
            product -= tf.linalg.matvec(rows, tf.linalg.matvec(rows, product), transpose_a=True)
        length = tf.norm(product)
        goes_on = (length > 10 * _EPSILON * _largest(of.nodes)) & (index + 1 < number)
        length = tf.where(goes_on, length, tf.zeros_like(length))
        links = tf.where(tf.equal(places, index + 1), length, links)
        return index + 1, rows, tf.math.divide_no_nan(product, length), diagonal, links

    zeros = tf.zeros((rank,), tf.float64)
    nothing = tf.zeros((rank, int(of.nodes.shape[0])), tf.float64)
    _, rows, _, diagonal, links = tf.while_loop(
        lambda index, *_: index < rank,
        body,
        (tf.constant(0), nothing, tf.sqrt(of.weights), zeros, zeros),
    )
    # p_j at each eigenvalue of T, times the first component of its vector, in T's own coordinates.
    polynomials = tf.math.divide_no_nan(rows, tf.sqrt(of.weights))
    own = tf.gather(polynomials, of.stand_ins, axis=1) * of.eigenvectors[:, 0]
    return Process(tridiagonal(diagonal, links), tf.matmul(own, of.eigenvectors))


def tridiagonal(diagonal: tf.Tensor, links: tf.Tensor) -> tf.Tensor:
    """Returns the symmetric matrix of shape (k, k).

    Args:
        diagonal: Shape (k,).
        links: Shape (k,): the entry between rows j - 1 and j at j; that at 0 is not read.
    """
    if int(diagonal.shape[0]) == 1:
        return diagonal[:, None]
    upper = tf.linalg.diag(links[1:], k=1)
    return tf.linalg.diag(diagonal) + upper + tf.transpose(upper)


def eigenpairs(matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns eigenvalues in no order, shape (m,), and vectors as rows, both to double precision.

    XLA's `eigh` stops at an error of 1e-6 on CPUs, and ghosts lie closer to each other. So Jacobi's
    rotations follow where they are needed, in parallel: the rows face each other in two halves, all
    pairs that face are rotated at once, and all rows but the first move on by one place.

    Reference: Brent and Luk, The solution of singular-value and symmetric eigenvalue problems on
    multiprocessor arrays, SIAM Journal on Scientific and Statistical Computing 6 (1985).

    Args:
        matrix: Symmetric, shape (m, m), float64; finite.
    """
    size = int(matrix.shape[0])
    half = (size + 1) // 2
    even = 2 * half
    matrix = tf.pad(matrix, [[0, even - size]] * 2)
    top, bottom = np.arange(half), np.arange(half, even)
    order = np.concatenate([top[:1], bottom[:1], top[1:-1], bottom[1:], top[-1:]])
    order = order if half > 1 else np.arange(2)
    tolerance = size * _EPSILON * tf.norm(matrix)
    _, vectors = tf.linalg.eigh(matrix)
    rotated = tf.matmul(vectors, tf.matmul(matrix, vectors), transpose_a=True)

    def rotate(matrix: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        diagonal = tf.linalg.diag_part(matrix)
        facing = tf.linalg.diag_part(matrix[:half, half:])
        cotangent = tf.math.divide_no_nan(diagonal[half:] - diagonal[:half], 2 * facing)
        ones = tf.ones_like(facing)
        sign = tf.where(tf.equal(facing, 0), 0 * ones, tf.where(cotangent < 0, -ones, ones))
        tangent = (sign / (tf.abs(cotangent) + tf.sqrt(1 + cotangent**2)))[:, None]
        cosine = tf.math.rsqrt(1 + tangent**2)
        sine = tangent * cosine

        def turn(of: tf.Tensor) -> tf.Tensor:
            upper, lower = of[:half], of[half:]
            both = [cosine * upper - sine * lower, sine * upper + cosine * lower]
            return tf.gather(tf.concat(both, axis=0), order)

        return turn(tf.transpose(turn(matrix))), turn(rows)

    def sweep(
        index: tf.Tensor, matrix: tf.Tensor, rows: tf.Tensor, rest: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        _, matrix, rows = tf.while_loop(
            lambda turn, *_: turn < even - 1,
            lambda turn, *both: (turn + 1, *rotate(*both)),
            (tf.constant(0), matrix, rows),
        )
        return index + 1, matrix, rows, _off_diagonal(matrix)

    _, matrix, rows, _ = tf.while_loop(
        lambda index, _matrix, _rows, rest: (index < _MOST_SWEEPS) & (rest > tolerance),
        sweep,
        (tf.constant(0), rotated, tf.transpose(vectors), _off_diagonal(rotated)),
    )
    # The row that was added is an eigenvector of zero, and in no other one.
    values, rows = tf.linalg.diag_part(matrix), rows[:, :size]
    if even == size:
        return values, rows
    kept = tf.argsort(tf.reduce_max(tf.abs(rows), axis=1), direction="DESCENDING")[:size]
    return tf.gather(values, kept), tf.gather(rows, kept)


def _off_diagonal(matrix: tf.Tensor) -> tf.Tensor:
    return tf.norm(tf.linalg.set_diag(matrix, tf.zeros_like(matrix[0])))


def _stand_ins(values: tf.Tensor, weights: tf.Tensor, least: tf.Tensor) -> tf.Tensor:
    """Returns for each value the one that stands for it, itself for a node, shape (m,)."""
    places = tf.range(int(values.shape[0]))
    order = tf.argsort(weights, direction="DESCENDING")
    infinity = tf.constant(np.inf, tf.float64)

    def body(turn: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        place = order[turn]
        distances = tf.where(tf.equal(found, places), tf.abs(values - values[place]), infinity)
        nearest = tf.argmin(distances, output_type=tf.int32)
        is_ghost = tf.sqrt(weights[place]) * distances[nearest] <= least
        stand_in = tf.where(is_ghost, nearest, place)
        return turn + 1, tf.where(tf.equal(places, place), stand_in, found)

    _, found = tf.while_loop(
        lambda turn, _: turn < int(values.shape[0]), body, (tf.constant(0), -tf.ones_like(places))
    )
    return found


def _largest(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(tf.abs(values))
