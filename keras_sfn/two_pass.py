"""The Krylov subspace of a step without its basis: the Lanczos recurrence is run twice.

The first pass keeps the tridiagonal matrix T alone. From it all positions follow that the step may
try, for every damping of its policy: a few vectors y of k coefficients each. The second pass makes
the rows q_j again and adds up sum_j y_j q_j for a basis of the space of those y. So memory does not
depend on k, at the price of twice the products.

The previous step p joins as the last row. Every row is removed from it when it goes by; what is
left is orthogonal to all of them, and since A q_j lies in the span of the rows for j < k - 1,

    p' A q_j = 0 for j < k - 1,    p' A q_{k-1} = p' (what the recurrence leaves of A q_{k-1})

so that T stays tridiagonal. (In floating point too: the recurrence holds to rounding whether or not
the rows are orthogonal.)

No row can be orthogonalised against earlier ones. Once a Ritz value has converged, rounding brings
its vector back and T gets a second copy of it. The gradient is |g| times the first row, and the
weights of the copies in it add up to that of the one eigenvalue: |g| Q' f(T) e_1 still is f(A) g,
as if from somewhat fewer rows. Where the Krylov space is exhausted the rows end: the rest of them
are zero. A random vector in their place would have to be orthogonal to rows that are gone.

Both passes are one loop around the same code. Two loops would be compiled to different rounding,
and the rows of the second would part from those that T belongs to just where copies arise.

Reference: Druskin and Knizhnerman, Krylov subspace approximation of eigenpairs and matrix functions
in exact and computer arithmetic, Numerical Linear Algebra with Applications 2 (1995); for two
passes Borici, A Lanczos approach to the inverse square root of a large and sparse matrix, Journal
of Computational Physics 162 (2000).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_sfn import row_blocks, saddle_free, vectors

# (Ritz pairs, gradient in their basis) -> positions in that basis, shape (m, k).
Positions = Callable[[saddle_free.RitzPairs, tf.Tensor], tf.Tensor]


class Subspace(NamedTuple):
    """What is known of a Krylov subspace after both passes.

    Attributes:
        ritz: Eigenpairs of T.
        gradient: Shape (k,), the start vector in the basis of Ritz vectors.
        plane: Shape (m, k), orthonormal rows: the space of all positions, in the same basis.
        sums: m tensors of shape (n,), the rows of `plane` as vectors.
    """

    ritz: saddle_free.RitzPairs
    gradient: tf.Tensor
    plane: tf.Tensor
    sums: tuple[tf.Tensor, ...]

    def expand(self, position: tf.Tensor) -> tf.Tensor:
        """Returns a position of shape (k,), one of the space that was asked for, as a vector."""
        coefficients = tf.linalg.matvec(self.plane, position)
        total = tf.zeros_like(self.sums[0])
        for index, vector in enumerate(self.sums):
            total = _add(total, coefficients[index], vector)
        return total


class _Process(NamedTuple):
    """What one pass carries."""

    # Vectors are as the row before left them, so that none is copied from one place to another.
    index: tf.Tensor  # (), the row in turn
    ahead: tf.Tensor  # (n,), the row in turn times its length
    length: tf.Tensor  # (), zero where the Krylov space has ended, and then the row is
    behind: tf.Tensor  # (n,), the row before times minus the entry of T between the two
    left: tf.Tensor  # (n,), what is left of the vector to append; () without one
    alphas: tf.Tensor  # (k,), diagonal of T
    links: tf.Tensor  # (k,), T's entry between rows j - 1 and j at j; zero at 0
    operator_norm: tf.Tensor  # (), the largest |A q| so far, a lower bound of |A|
    sums: tuple[tf.Tensor, ...]

    def row(self) -> tf.Tensor:
        """Returns the row in turn, shape (n,)."""
        return self.ahead * tf.math.divide_no_nan(tf.ones_like(self.length), self.length)


class _Passes(NamedTuple):
    """What both passes share."""

    matvec: Callable[[tf.Tensor], tf.Tensor]
    first: tf.Tensor  # (n,), the first row
    rank: int
    append: tf.Tensor | None  # (n,)

    def run(
        self, coefficients: tf.Tensor, sums: tuple[tf.Tensor, ...], is_second: tf.Tensor
    ) -> _Process:
        """Goes through the rows; the second pass adds them up and leaves the last one in turn."""
        threshold = tf.zeros((), self.first.dtype)
        if self.append is not None:
            # Less than the root of the precision left over means that it lies in the span of the
            # rows.
            threshold = _epsilon(threshold.dtype) ** 0.5 * vectors.norm(self.append)

        def body(*fields: tf.Tensor) -> _Process:
            process = _Process(*fields)
            row = process.row()
            process = _accumulate(process, row, coefficients, is_second)
            return _advance(process, row, self.matvec(row), threshold, self.append is not None)

        # Of the last row the second pass needs no product.
        limit = tf.where(is_second, self.rank - 1, self.rank)
        # Iterations that overlap would hold the vectors of several.
        return _Process(
            *tf.while_loop(
                lambda index, *_: index < limit, body, self._start(sums), parallel_iterations=1
            )
        )

    def _start(self, sums: tuple[tf.Tensor, ...]) -> _Process:
        dtype = self.first.dtype
        return _Process(
            index=tf.constant(0),
            ahead=self.first,
            length=tf.ones((), dtype),
            behind=tf.zeros_like(self.first),
            left=tf.zeros((), dtype) if self.append is None else self.append,
            alphas=tf.zeros((self.rank,), dtype),
            links=tf.zeros((self.rank,), dtype),
            operator_norm=tf.zeros((), dtype),
            sums=sums,
        )


class _Between(NamedTuple):
    """What the first pass hands to the second, and that to the caller."""

    ritz: saddle_free.RitzPairs
    gradient: tf.Tensor
    plane: tf.Tensor


def build(
    matvec: Callable[[tf.Tensor], tf.Tensor],
    gradient: tf.Tensor,
    rank: int,
    eigenpairs: Callable[[tf.Tensor], saddle_free.RitzPairs],
    positions: Positions,
    count: int,
    *,
    append: tf.Tensor | None = None,
    seed: tf.Tensor,
) -> Subspace:
    """Runs both passes: 2 `rank` - 1 products.

    Args:
        matvec: The symmetric operator, from shape (n,) to shape (n,).
        gradient: Shape (n,), the start. Where it is zero a random vector is.
        rank: Number k of rows, at most n.
        eigenpairs: T, shape (k, k) -> its eigenpairs.
        positions: What the step may try. Multiples of these are in the space too.
        count: How many positions these are.
        append: Optional vector of shape (n,) that takes the place of the last row. One that is zero
            or in the span of the others is left out, and the Krylov sequence goes on instead.
        seed: Shape (2,) integers, for the random vector.
    """
    size, dtype = int(gradient.shape[0]), gradient.dtype
    count = min(count, rank)
    first = _first_row(gradient, seed)
    length = vectors.dot(first, gradient)
    passes = _Passes(matvec, first, rank, append if rank > 1 else None)

    def between(process: _Process) -> _Between:
        ritz = eigenpairs(_tridiagonal(process.alphas, process.links))
        reduced = length * ritz.vectors[0]
        return _Between(ritz, reduced, _orthonormal(positions(ritz, reduced)))

    def round_(
        number: tf.Tensor, known: _Between, sums: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, _Between, tuple[tf.Tensor, ...]]:
        is_second = tf.equal(number, 1)
        coefficients = tf.matmul(known.plane, known.ritz.vectors, transpose_b=True)
        process = passes.run(coefficients, sums, is_second)
        [known] = row_blocks.at_most_once(~is_second, lambda _: (between(process),), known)
        process = _accumulate(process, process.row(), coefficients, is_second)
        return number + 1, known, process.sums

    zeros = tf.zeros((rank,), dtype)
    pairs = saddle_free.RitzPairs(zeros, tf.zeros((rank, rank), dtype), tf.constant(True))
    nothing = _Between(pairs, zeros, tf.zeros((count, rank), dtype))
    sums = tuple(tf.zeros((size,), dtype) for _ in range(count))
    state = (tf.constant(0), nothing, sums)
    _, known, sums = tf.while_loop(
        lambda number, *_: number < 2, round_, state, parallel_iterations=1
    )
    return Subspace(known.ritz, known.gradient, known.plane, sums)


def _first_row(gradient: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    norm = vectors.norm(gradient)
    usable = tf.math.is_finite(norm) & (norm > 0)
    row = tf.cond(
        usable,
        lambda: gradient,
        lambda: tf.random.stateless_normal(gradient.shape, seed, dtype=gradient.dtype),
    )
    return row / vectors.norm(row)


def _advance(
    process: _Process, row: tf.Tensor, product: tf.Tensor, threshold: tf.Tensor, appends: bool
) -> _Process:
    """Goes from row j to the next one; `product` is A q_j."""
    index = process.index
    rank = int(process.alphas.shape[0])
    link = process.links[index]
    alpha = vectors.dot(row, product)
    rest = product + process.behind - alpha * row
    norm = vectors.norm(rest)
    operator_norm = tf.maximum(process.operator_norm, tf.norm(tf.stack([alpha, link, norm])))
    # Not a product that is not finite, which must show.
    ended = norm <= 10 * _epsilon(norm.dtype) * operator_norm
    ahead, link = rest, tf.where(ended, tf.zeros_like(norm), norm)
    length = link
    left = process.left
    if appends:
        left -= vectors.dot(row, left) * row

        def append(ahead: tf.Tensor, length: tf.Tensor, link: tf.Tensor) -> tuple[tf.Tensor, ...]:
            norm = vectors.norm(left)
            usable = norm > threshold
            link = tf.where(usable, vectors.dot(ahead, left) / norm, link)
            return tf.where(usable, left, ahead), tf.where(usable, norm, length), link

        is_turn = tf.equal(index, rank - 2)
        ahead, length, link = row_blocks.at_most_once(is_turn, append, ahead, length, link)
    places = tf.range(rank)
    return process._replace(
        index=index + 1,
        ahead=ahead,
        length=length,
        behind=-link * row,
        left=left,
        alphas=tf.where(tf.equal(places, index), alpha, process.alphas),
        links=tf.where(tf.equal(places, index + 1), link, process.links),
        operator_norm=operator_norm,
    )


def _accumulate(
    process: _Process, row: tf.Tensor, coefficients: tf.Tensor, wanted: tf.Tensor
) -> _Process:
    """Adds the row in turn to all sums, each time with its coefficient."""

    def add(place: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Looked up here: XLA would compute all that is to be added ahead, a vector for each sum.
        column = coefficients[:, place]
        added: list[tf.Tensor] = []
        for index, total in enumerate(sums):
            # One after the other, since each takes a vector of scratch memory.
            with tf.control_dependencies(added[-1:]):
                added.append(_add(total, column[index], row))
        return place + 1, *added

    # After the last row of the first pass the index is out of bounds.
    place = tf.minimum(process.index, int(coefficients.shape[1]) - 1)
    _, *sums = row_blocks.at_most_once(wanted, add, place, *process.sums)
    return process._replace(sums=tuple(sums))


def _add(total: tf.Tensor, coefficient: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    return total + coefficient * vector


def _orthonormal(positions: tf.Tensor) -> tf.Tensor:
    """Returns orthonormal rows whose span holds the positions, shape (min(m, k), k).

    A position that is not finite is none: its trial fails whatever the span.
    """
    largest = tf.reduce_max(tf.abs(positions), axis=1, keepdims=True)
    usable = tf.math.is_finite(largest) & (largest > 0)
    scaled = tf.where(usable, positions / tf.where(usable, largest, 1), 0)
    return tf.transpose(tf.linalg.qr(tf.transpose(scaled)).q)


def _tridiagonal(alphas: tf.Tensor, links: tf.Tensor) -> tf.Tensor:
    if int(alphas.shape[0]) == 1:
        return alphas[:, None]
    upper = tf.linalg.diag(links[1:], k=1)
    return tf.linalg.diag(alphas) + upper + tf.transpose(upper)


def _epsilon(dtype: tf.DType) -> float:
    return float(np.finfo(dtype.as_numpy_dtype).eps)
