"""The Krylov subspace of a step without its basis: the Lanczos recurrence is run twice.

The first pass keeps the tridiagonal matrix T alone. From it all positions follow that the step may
try, for every damping of its policy: a few vectors y of coefficients each. The second pass makes
the rows v_i again and adds up sum_i y_i v_i for a basis of the space of those y. So memory does not
depend on the number of rows, at the price of twice the products.

No row can be orthogonalised against earlier ones. Once a Ritz value has converged, rounding brings
its vector back, and T gets a ghost of it. What k rows with full orthogonalisation would have been
is found all the same (`ghosts`): the first pass goes on until T has some distinct Ritz values more
than k, and the k rows q_j are sums of those made. Without ghosts that takes k / 3 rows more; with
many converged Ritz values some times as many as k.

The previous step p joins after k rows: p less its projections c_j = q_j' p on them. These are sums
of what the rows of the first pass have with p in common. What is left of p is orthogonal to all
q_j, and A q_j lies in the span of the q for j < k - 1, so that T stays tridiagonal:

    (p - Q c)' A q_j = 0 for j < k - 1,    (p - Q c)' A q_{k-1} = c_k t_k

with c_k of the row that would have been next, and T's entry t_k between that and row k - 1. The
last entry follows from p' A p, for one product more:

    (p - Q c)' A (p - Q c) = p' A p - c' T c - 2 c_{k-1} t_k c_k.

Where the Krylov space is exhausted the rows end: the rest of them are zero. A random vector in
their place would have to be orthogonal to rows that are gone.

All passes are one loop around the same code. Two loops would be compiled to different rounding, and
the rows of the second would part from those that T belongs to just where ghosts arise.

Reference: Borici, A Lanczos approach to the inverse square root of a large and sparse matrix,
Journal of Computational Physics 162 (2000), for two passes; those in `ghosts` for the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_sfn import ghosts, row_blocks, saddle_free, vectors

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
    """What one pass carries, with m rows at most."""

    # Vectors are as the row before left them, so that none is copied from one place to another.
    index: tf.Tensor  # (), the row in turn
    ahead: tf.Tensor  # (n,), the row in turn times its length
    length: tf.Tensor  # (), zero where the Krylov space has ended, and then the row is
    behind: tf.Tensor  # (n,), the row before times minus the entry of T between the two
    left: tf.Tensor  # (n,), what is left of the vector to append; () without one
    alphas: tf.Tensor  # (m,), diagonal of T
    links: tf.Tensor  # (m,), T's entry between rows j - 1 and j at j
    overlaps: tf.Tensor  # (m,), products of the rows with the vector to append
    operator_norm: tf.Tensor  # (), the largest |A v| so far, a lower bound of |A|
    search: _Search
    sums: tuple[tf.Tensor, ...]

    def matrix(self) -> tf.Tensor:
        """Returns T: its diagonal and what is beside it, shape (2, m)."""
        return tf.stack([self.alphas, self.links])

    def row(self) -> tf.Tensor:
        """Returns the row in turn, shape (n,)."""
        return self.ahead * tf.math.divide_no_nan(tf.ones_like(self.length), self.length)


class _Search(NamedTuple):
    """How far the first pass is: it ends where it has found enough distinct Ritz values."""

    found: tf.Tensor  # (), how many there were when last looked for
    grown: tf.Tensor  # (), the number of rows when there were more than the time before
    due: tf.Tensor  # (), the number of rows at which to look again
    goes_on: tf.Tensor  # (), boolean
    measure: ghosts.Measure  # as last looked for, of m nodes at most


class _Between(NamedTuple):
    """What the first pass hands to the second, and that to the caller."""

    square: tf.Tensor  # (), p' p of the vector to append
    curvature: tf.Tensor  # (), p' A p / p' p
    made: tf.Tensor  # (), how many rows the first pass made
    ritz: saddle_free.RitzPairs
    gradient: tf.Tensor  # (k,)
    plane: tf.Tensor  # (count, k)
    coefficients: tf.Tensor  # (count, m + 1): of the plane's rows in those made and what is left
    removed: tf.Tensor  # (m + 1,): of what is to be removed from the vector to append


class _Passes(NamedTuple):
    """What all passes share."""

    matvec: Callable[[tf.Tensor], tf.Tensor]
    first: tf.Tensor  # (n,), the first row
    rank: int
    appends: bool  # whether a vector is to join as the last row
    agree: Callable[[tf.Tensor], tf.Tensor]

    @property
    def most_rows(self) -> int:
        """How many rows the first pass makes at most."""
        return 4 * self.rank + 16

    @property
    def sizes(self) -> list[int]:
        """For how many rows eigenvalues are found: few rows are not to cost what many do."""
        return [2 * self.rank + 16, self.most_rows] if self.rank > 16 else [self.most_rows]

    @property
    def margin(self) -> int:
        """How many distinct Ritz values more than rows it takes until those are right."""
        return self.rank // 3 + 2

    @property
    def enough(self) -> int:
        """How many distinct Ritz values end the first pass: there are no more than n."""
        return min(self.rank + self.margin, int(self.first.shape[0]))

    def run(
        self,
        number: tf.Tensor,
        known: _Between,
        left: tf.Tensor,
        sums: tuple[tf.Tensor, ...],
    ) -> _Process:
        """Goes through the rows of one pass; the second pass leaves the last one in turn.

        Args:
            number: 0 makes the one product with the vector to append, 1 is the first pass, 2 the
                second.
            known: What is known when it begins.
            left: What is left of the vector to append, shape (n,); a scalar without one.
            sums: What has been added up.
        """

        def body(*fields: tf.Tensor) -> _Process:
            process = _Process(*fields)
            row = process.row()
            process = _accumulate(process, process.index, row, known, tf.equal(number, 2))
            process = self._advance(process, row, self.matvec(row))
            return self._look(process, tf.equal(number, 1))

        # Of the last row the second pass needs no product.
        limit = tf.stack([1, self.most_rows, known.made - 1])[number]
        # Iterations that overlap would hold the vectors of several.
        return _Process(
            *tf.while_loop(
                lambda *fields: (fields[0] < limit) & _Process(*fields).search.goes_on,
                body,
                self._start(number, left, sums),
                parallel_iterations=1,
            )
        )

    def nothing(self, count: int) -> _Between:
        """Returns what is known before all passes, with room for `count` positions."""
        dtype, rank, width = self.first.dtype, self.rank, self.most_rows + 1
        zeros = tf.zeros((rank,), dtype)
        return _Between(
            square=tf.zeros((), dtype),
            curvature=tf.zeros((), dtype),
            made=tf.constant(1),
            ritz=saddle_free.RitzPairs(zeros, tf.zeros((rank, rank), dtype), tf.constant(True)),
            gradient=zeros,
            plane=tf.zeros((count, rank), dtype),
            coefficients=tf.zeros((count, width), dtype),
            removed=tf.zeros((width,), dtype),
        )

    def _start(self, number: tf.Tensor, left: tf.Tensor, sums: tuple[tf.Tensor, ...]) -> _Process:
        dtype, size = self.first.dtype, self.most_rows
        ahead, length = self.first, tf.ones((), dtype)
        if self.appends:
            is_appended = tf.equal(number, 0)
            ahead = tf.where(is_appended, left, ahead)
            length = tf.where(is_appended, vectors.norm(left), length)
        zeros, wide_zeros = tf.zeros((size,), dtype), tf.zeros((size,), tf.float64)
        nothing = tf.constant(0)
        no_measure = ghosts.Measure(
            wide_zeros, wide_zeros, tf.zeros((size,), tf.int32), tf.zeros((size, size), tf.float64)
        )
        return _Process(
            index=nothing,
            ahead=ahead,
            length=length,
            behind=tf.zeros_like(self.first),
            left=left,
            alphas=zeros,
            links=zeros,
            overlaps=zeros,
            operator_norm=tf.zeros((), dtype),
            search=_Search(
                nothing, nothing, tf.constant(self.enough), tf.constant(True), no_measure
            ),
            sums=sums,
        )

    def _advance(self, process: _Process, row: tf.Tensor, product: tf.Tensor) -> _Process:
        """Goes from row j to the next one; `product` is A v_j."""
        index = process.index
        link = process.links[index]
        alpha = vectors.dot(row, product)
        rest = product + process.behind - alpha * row
        norm = vectors.norm(rest)
        operator_norm = tf.maximum(process.operator_norm, tf.norm(tf.stack([alpha, link, norm])))
        # Not a product that is not finite, which must show.
        ended = norm <= 10 * _epsilon(norm.dtype) * operator_norm
        # Agreed on, since all go on or none: a product is one of all.
        length = self.agree(tf.where(ended, tf.zeros_like(norm), norm))
        places = tf.range(self.most_rows)
        here = tf.equal(places, index)
        overlaps = process.overlaps
        if self.appends:
            overlaps = tf.where(here, vectors.dot(row, process.left), overlaps)
        return process._replace(
            index=index + 1,
            ahead=rest,
            length=length,
            behind=-length * row,
            alphas=tf.where(here, alpha, process.alphas),
            links=tf.where(tf.equal(places, index + 1), length, process.links),
            overlaps=overlaps,
            operator_norm=operator_norm,
        )

    def _look(self, process: _Process, is_first: tf.Tensor) -> _Process:
        """Looks for the distinct Ritz values where that is due, and decides on more rows."""
        made = process.index
        # Where the rows have ended, or are not finite, there are no more.
        has_next = tf.math.is_finite(process.length) & (process.length > 0)
        search, matrix = process.search, process.matrix()
        is_due = tf.equal(made, search.due) | tf.equal(made, self.most_rows) | ~has_next
        is_due &= is_first
        for before, size in zip([0, *self.sizes], self.sizes, strict=False):
            # The matrix goes through, changed: else XLA would find eigenvalues for every row.
            search, _ = row_blocks.at_most_once(
                is_due & (made > before) & (made <= size),
                functools.partial(self._look_among, size, made),
                search,
                matrix,
            )
        return process._replace(search=search._replace(goes_on=search.goes_on & has_next))

    def _look_among(
        self, size: int, made: tf.Tensor, search: _Search, matrix: tf.Tensor
    ) -> tuple[_Search, tf.Tensor]:
        measure = self._measure(matrix[:, :size], made)
        found = measure.number()
        grown = tf.where(found > search.found, made, search.grown)
        # A row gives one distinct Ritz value at most; where there are ghosts, some give none. Many
        # that give none are in a space that is exhausted but for rounding.
        missing = self.enough - found
        due = made + tf.maximum(missing + missing // 2, 2)
        goes_on = (missing > 0) & (made - grown < self.rank // 2 + 8)
        return _Search(found, grown, due, goes_on, measure), tf.zeros_like(matrix)

    def _measure(self, matrix: tf.Tensor, made: tf.Tensor) -> ghosts.Measure:
        """Returns the measure of the rows made so far; of rows that are not finite, of none."""
        both = tf.cast(self.agree(matrix), tf.float64)
        size = int(both.shape[1])
        kept = (tf.range(size) < made) & tf.reduce_all(tf.math.is_finite(both))
        diagonal, links = (tf.where(kept, part, tf.zeros_like(part)) for part in tf.unstack(both))
        found = ghosts.measure(ghosts.tridiagonal(diagonal, links), _epsilon(self.first.dtype))
        more = self.most_rows - size
        return ghosts.Measure(*(tf.pad(part, [[0, more]] * part.shape.rank) for part in found))

    def recover(self, process: _Process, known: _Between) -> tuple[tf.Tensor, ...]:
        """Returns T of the k rows after the first pass, and these rows as sums of those made.

        Args:
            process: After the first pass.
            known: Before it.

        Returns:
            T, shape (k, k), not finite where the products are not; the rows, shape (k, m); what the
            vector to append has in common with them, shape (k,), and whether it is the last row.
        """
        search = process.search
        # Where there was no room for more rows, the last ones are not known.
        right = tf.maximum(search.found - self.margin, 1)
        number = tf.minimum(tf.where(search.goes_on, right, search.found), self.rank)
        krylov = ghosts.krylov(search.measure, self.rank, number)
        projected = krylov.projected
        common, usable = tf.zeros((self.rank,), tf.float64), tf.constant(False)
        if self.appends:
            overlaps = tf.cast(self.agree(process.overlaps), tf.float64)
            common = tf.linalg.matvec(krylov.rows, overlaps)
            projected, usable = _appended(projected, common, known, self.first.dtype)
        is_finite = tf.reduce_all(tf.math.is_finite(process.matrix()))
        nan = tf.constant(np.nan, tf.float64)
        return tf.where(is_finite, projected, nan), krylov.rows, common, usable


def _appended(
    projected: tf.Tensor,
    common: tf.Tensor,
    known: _Between,
    dtype: tf.DType,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns T with the vector to append in place of its last row, and whether it was usable."""
    before, c = projected[:-1, :-1], common[:-1]
    link, last = projected[-2, -1], common[-1]
    square, curvature = (tf.cast(n, tf.float64) for n in (known.square, known.curvature))
    left = square - tf.reduce_sum(c**2)
    # The difference has the rounding of its terms. What is less lies in the span of the rows.
    usable = left > 100 * _epsilon(dtype) * square
    left = tf.where(usable, left, 1)
    corner = curvature * square - tf.tensordot(c, tf.linalg.matvec(before, c), 1)
    corner = (corner - 2 * c[-1] * link * last) / left
    border = tf.concat([tf.zeros_like(c[1:]), [link * last / tf.sqrt(left)]], axis=0)
    bordered = tf.concat(
        [
            tf.concat([before, border[:, None]], axis=1),
            tf.concat([border, [corner]], axis=0)[None],
        ],
        axis=0,
    )
    return tf.where(usable, bordered, projected), usable


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
    agree: Callable[[tf.Tensor], tf.Tensor] = lambda value: value,
) -> Subspace:
    """Runs both passes.

    Without converged Ritz values the first makes a third more rows than `rank`, and two; each takes
    a product in either pass, but for the last one, and `append` takes one.

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
        agree: What several processes pass numbers through by which they decide.
    """
    size, dtype = int(gradient.shape[0]), gradient.dtype
    count = min(count, rank)
    first = _first_row(gradient, seed)
    length = vectors.dot(first, gradient)
    append = append if rank > 1 else None
    appends = append is not None
    passes = _Passes(matvec, first, rank, appends, agree)

    def between(process: _Process, known: _Between) -> _Between:
        projected, rows, common, usable = passes.recover(process, known)
        ritz = eigenpairs(tf.cast(projected, dtype))
        reduced = length * ritz.vectors[0]
        plane = _orthonormal(positions(ritz, reduced))
        wanted = tf.cast(tf.matmul(plane, ritz.vectors, transpose_b=True), tf.float64)
        is_last = tf.cast(usable, tf.float64) * tf.one_hot(rank - 1, rank, dtype=tf.float64)
        coefficients = tf.concat(
            [tf.matmul(wanted * (1 - is_last), rows), tf.linalg.matvec(wanted, is_last)[:, None]],
            axis=1,
        )
        removed = tf.linalg.matvec(rows, common * (1 - is_last), transpose_a=True)
        return _Between(
            known.square,
            known.curvature,
            process.index,
            ritz,
            reduced,
            plane,
            tf.cast(coefficients, dtype),
            tf.cast(tf.concat([removed, [0.0]], axis=0), dtype),
        )

    def round_(
        number: tf.Tensor, known: _Between, left: tf.Tensor, sums: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, _Between, tf.Tensor, tuple[tf.Tensor, ...]]:
        process = passes.run(number, known, left, sums)
        if appends:
            # The one row is p / |p|.
            of_append = agree(tf.stack([process.overlaps[0] ** 2, process.alphas[0]]))
            before = tf.stack([known.square, known.curvature])
            square, curvature = tf.unstack(tf.where(tf.equal(number, 0), of_append, before))
            known = known._replace(square=square, curvature=curvature)
        [known] = row_blocks.at_most_once(
            tf.equal(number, 1), lambda known: (between(process, known),), known
        )
        is_second = tf.equal(number, 2)
        last = tf.maximum(known.made - 1, 0)
        process = _accumulate(process, last, process.row(), known, is_second)
        if appends:
            row = process.left * tf.math.reciprocal_no_nan(vectors.norm(process.left))
            process = _accumulate(process, passes.most_rows, row, known, is_second)
        return number + 1, known, process.left, process.sums

    left = tf.zeros((), dtype) if append is None else append
    sums = tuple(tf.zeros((size,), dtype) for _ in range(count))
    state = (tf.constant(0 if appends else 1), passes.nothing(count), left, sums)
    _, known, _, sums = tf.while_loop(
        lambda number, *_: number < 3, round_, state, parallel_iterations=1
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


def _accumulate(
    process: _Process, place: tf.Tensor | int, row: tf.Tensor, known: _Between, wanted: tf.Tensor
) -> _Process:
    """Adds a row to all sums, each time with its coefficient, and takes it out of what is left."""
    appends = process.left.shape.rank > 0

    def add(place: tf.Tensor, left: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Looked up here: XLA would compute all that is to be added ahead, a vector for each sum.
        column = known.coefficients[:, place]
        added = [_add(left, -known.removed[place], row) if appends else left]
        for index, total in enumerate(sums):
            # One after the other, since each takes a vector of scratch memory.
            with tf.control_dependencies(added[-1:]):
                added.append(_add(total, column[index], row))
        return place + 1, *added

    place = tf.convert_to_tensor(place)
    _, left, *sums = row_blocks.at_most_once(wanted, add, place, process.left, *process.sums)
    return process._replace(left=left, sums=tuple(sums))


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


def _epsilon(dtype: tf.DType) -> float:
    return float(np.finfo(dtype.as_numpy_dtype).eps)
