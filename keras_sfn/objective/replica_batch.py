"""A batch whose rows lie on several replicas of a `tf.distribute` strategy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_sfn.backend import collectives
from keras_sfn.objective import batches, parameter_space, replicas, row_parts
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import rows as rows_lib
from keras_sfn.objective import traced as traced_lib

# Odd, so that all replicas have different seeds, and these lie far apart (2**32 over the golden
# ratio): the i-th generator or slice of one replica never has the seed of another replica's.
_SEEDS_A_REPLICA = 2654435769


def count_rows(rows: Any) -> tf.Tensor:
    """Returns the rows of each replica, shape (replicas,) integers, from each replica's own."""

    def place(own: tf.Tensor) -> tf.Tensor:
        return own * tf.one_hot(collectives.index(), collectives.number(), dtype=own.dtype)

    return collectives.total(collectives.run(place, rows))


class ReplicaBatch:
    """Like `batches.Batch`, for rows that lie on several replicas; made and used inside `once`.

    Args:
        data: Structure of values, with the rows of each replica along their first axis.
        loss_of: Maps one replica's part of `data` to a loss function. Losses are as Keras scales
            them: a mean is divided by the number of replicas.
        space: What is trained.
        counts: Shape (replicas,), how many rows each replica has; None if that is not known, and
            the loss is the sum of the replicas' losses.
        obstacle: As of `batches.Batch`.
        slice_rows: Rows that a replica evaluates at a time, or None for all.
        is_sum: Whether losses are sums over rows instead of means.
        synchronized: Whether layers sum over the replicas by themselves; None to find out.

    Attributes:
        space: As the argument.
        obstacle: As the argument.
        synchronized: As the argument, once that is known.
    """

    def __init__(
        self,
        data: Any,
        loss_of: objective_lib.LossOf,
        space: parameter_space.ParameterSpace,
        counts: tf.Tensor | None = None,
        *,
        obstacle: str | None = None,
        slice_rows: int | None = None,
        is_sum: bool = False,
        synchronized: bool | None = False,
    ) -> None:
        self.space = space
        self.obstacle = obstacle
        self.synchronized = bool(synchronized)
        self._data = data
        self._loss_of = loss_of
        self._slice_rows = slice_rows
        self._is_sum = is_sum
        self._counts = counts
        self._seed: tf.Tensor | None = None
        self._steps: tf.Tensor | None = None
        self._jit_compile, self._early = False, None
        self._shares = self._shares_of(data, counts)
        if synchronized is None:
            self.synchronized = self._meets_others()

    @property
    def example(self) -> objective_lib.Objective:
        """The loss of one of this process's replicas."""
        return self._shares[0].batch.example

    @property
    def traced(self) -> traced_lib.Traced:
        """What one trace of the example shows."""
        return self._shares[0].batch.traced

    def try_part(self) -> None:
        """See `batches.Batch.try_part`."""
        batch = self._shares[0].batch
        batch.try_part()
        self.obstacle = batch.obstacle

    def compile_parts(self, jit_compile: bool, early: tf.Tensor | None) -> None:
        """Lets XLA compile what a replica evaluates, where that is possible.

        Args:
            jit_compile: Whether it is wanted.
            early: As of `devices.compiled`.
        """
        # What is held constant would have to leave the compiled function of its replica.
        self._jit_compile = jit_compile and not self.synchronized and not self.traced.stops_gradient
        self._early = early

    def reseed(self, seed: tf.Tensor) -> None:
        """See `batches.Batch.reseed`; each replica draws from seeds of its own."""
        self._seed = seed

    def follow(self, steps: tf.Tensor) -> None:
        """See `batches.Batch.follow`: moving statistics follow the rows of all replicas."""
        self._steps = tf.identity(steps)

    def whole(self) -> replicas.Replicas:
        """Returns the loss of all rows."""
        return self._loss(self._shares, self._counts)

    def spaced(self, wanted: int) -> replicas.Replicas:
        """Returns the loss of so many rows, evenly spaced over those of all replicas.

        Args:
            wanted: As of `batches.Batch.spaced`.
        """
        known = self._known
        taken = rows_lib.of_curvature(wanted, known)
        return self._of(
            lambda row: rows_lib.spaced_before(row, taken, known),
            lambda own, before, count: rows_lib.spaced_of_part(own, taken, known, before, count),
        )

    def spread(self, share: tf.Tensor) -> row_parts.RowParts:
        """See `batches.Batch.spread`; the rows of each part lie on all replicas.

        Args:
            share: As there.
        """
        known = self._known
        count = rows_lib.number_of_parts(known, self.traced.predictions_a_row)

        def part(index: tf.Tensor) -> replicas.Replicas:
            return self._of(
                lambda row: rows_lib.every_before(row, index, count, known),
                lambda own, before, rows: rows_lib.every_of_part(
                    own, index, count, known, before, rows
                ),
            )

        return row_parts.RowParts(part, -(-count // share), self.space)

    def part(self, index: tf.Tensor, count: int) -> replicas.Replicas:
        """See `batches.Batch.part`.

        Args:
            index: As there.
            count: As there.
        """
        predictions = self.traced.predictions_a_row
        return self._neighbours(*rows_lib.of_part(index, count, self._known, predictions))

    def has_halves(self) -> tf.Tensor:
        """See `batches.Batch.has_halves`."""
        return tf.greater_equal(self._known, 2)

    def half(self, index: tf.Tensor) -> replicas.Replicas:
        """See `batches.Batch.half`.

        Args:
            index: As there.
        """
        size = self._known // 2
        return self._neighbours(index * size, size, batches.seed_of_draw(self._seed, index))

    def redrawn(self, index: tf.Tensor) -> replicas.Replicas:
        """See `batches.Batch.redrawn`.

        Args:
            index: As there.
        """
        seed = batches.seed_of_draw(self._seed, index)
        return self._loss(self._shares, self._counts, seed)

    def fingerprint(self) -> tuple[tf.Tensor, tf.Tensor]:
        """See `batches.Batch.fingerprint`."""
        sums = collectives.run(lambda own: tf.stack(batches.fingerprint(own)), self._data)
        total, size = tf.unstack(collectives.total(sums))
        return total, size

    def arithmetic(self) -> Any:
        """See `batches.Batch.arithmetic`; of all replicas together."""
        batch = self._shares[0].batch
        if self._counts is None:
            return batch.arithmetic(1) * collectives.number()
        own = batch.arithmetic()
        return batch.arithmetic(self._known) if tf.is_tensor(own) else own * collectives.number()

    def _meets_others(self) -> bool:
        found: list[bool] = []

        def look() -> None:
            if not found:
                example, values = self.example, self.space.values()
                found.append(collectives.meets_others(lambda: example.evaluate(values).loss))

        collectives.run(look)
        return found[0]

    @property
    def _known(self) -> tf.Tensor:
        """The rows of all replicas, a scalar."""
        assert self._counts is not None
        return tf.reduce_sum(self._counts)

    def _neighbours(
        self, start: tf.Tensor, size: tf.Tensor, seed: tf.Tensor | None = None
    ) -> replicas.Replicas:
        """Returns the loss of so many rows from one on."""

        def before(row: tf.Tensor) -> tf.Tensor:
            return tf.clip_by_value(row - start, 0, size)

        def rows_of(own: Any, row: tf.Tensor, count: tf.Tensor) -> Any:
            taken = before(row + count) - before(row)
            return rows_lib.take(own, tf.clip_by_value(start - row, 0, count - taken), taken)

        return self._of(before, rows_of, seed)

    def _of(
        self,
        before: Callable[[tf.Tensor], tf.Tensor],
        rows_of: Callable[[Any, tf.Tensor, tf.Tensor], Any],
        seed: tf.Tensor | None = None,
    ) -> replicas.Replicas:
        """Returns the loss of some of the rows.

        Args:
            before: A row of the batch -> how many of those taken come before it.
            rows_of: (data, rows before, rows) of a replica -> those taken from it.
            seed: Another than that of the step, or None.
        """
        counts = self._counts
        assert counts is not None
        starts = tf.cumsum(counts, exclusive=True)
        taken = before(starts + counts) - before(starts)

        def own_rows(own: Any) -> Any:
            index = collectives.index()
            return rows_of(own, starts[index], counts[index])

        data = collectives.run(own_rows, self._data)
        return self._loss(self._shares_of(data, taken), taken, seed)

    def _loss(
        self,
        shares: Sequence[_Share],
        counts: tf.Tensor | None,
        seed: tf.Tensor | None = None,
    ) -> replicas.Replicas:
        parts: dict[int, objective_lib.Loss] = {}
        traced = self.traced
        rows = None if counts is None else tf.reduce_sum(counts)
        starts = None if counts is None else tf.cumsum(counts, exclusive=True)
        seed = self._seed if seed is None else seed

        def make() -> None:
            index = collectives.index()
            batch = next(share.batch for share in shares if share.replica == index)
            batch.traced = traced
            if seed is not None:
                offset = tf.constant([index * _SEEDS_A_REPLICA, 0], seed.dtype)
                batch.reseed(seed + offset)
            if self._steps is not None:
                batch.follow(self._steps, rows)
            place = rows_lib.Place(index, 1, None)
            if counts is not None and starts is not None:
                place = rows_lib.Place(starts[index], counts[index], rows)
            parts[index] = batch.whole(place)

        collectives.run(make)
        return replicas.Replicas(
            parts,
            self.space,
            counts,
            may_be_empty=any(share.may_be_empty for share in shares),
            padded=any(share.padded for share in shares),
            is_sum=self._is_sum,
            synchronized=self.synchronized,
            jit_compile=self._jit_compile,
            early=self._early,
        )

    def _shares_of(self, data: Any, counts: tf.Tensor | None) -> list[_Share]:
        """Makes the batch of each replica's rows, in that replica's code; sorted by index."""
        shares: list[_Share] = []

        def make(own: Any) -> None:
            first = next((part for part in keras.tree.flatten(own) if tf.is_tensor(part)), None)
            may_be_empty = counts is not None and first is not None and not first.shape[0]
            padded = may_be_empty and not self._is_sum and not self.synchronized
            if counts is not None and padded:
                # Layers and losses may refuse zero rows, or give NaN. (A sum over none is right,
                # and synchronised statistics would count a row too many.)
                own = rows_lib.with_zeros(own, tf.maximum(1 - counts[collectives.index()], 0))
            batch = batches.Batch(
                own,
                functools.partial(self._weighted, counts, collectives.index()),
                self.space,
                obstacle=self.obstacle,
                slice_rows=self._slice_rows,
            )
            shares.append(_Share(collectives.index(), batch, batch.example, may_be_empty, padded))

        collectives.run(make, data)
        return sorted(shares, key=lambda share: share.replica)

    def _weighted(
        self, counts: tf.Tensor | None, replica: int, own: Any
    ) -> objective_lib.LossFunction:
        """Returns the loss function of one replica's rows, weighed by how many these are."""
        loss_fn = self._loss_of(own)
        if counts is None or self._is_sum:
            return loss_fn
        weight = replicas.fraction(counts, replica) * collectives.number()

        def loss_and_outputs() -> tuple[tf.Tensor, Any]:
            loss, outputs = loss_fn()
            return loss * tf.cast(weight, loss.dtype), outputs

        return loss_and_outputs


class _Share(NamedTuple):
    """What one replica has of a batch."""

    replica: int
    batch: batches.Batch
    example: objective_lib.Objective
    may_be_empty: bool
    padded: bool
