"""A batch whose rows lie on several replicas of a `tf.distribute` strategy."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_sfn.backend import collectives
from keras_sfn.objective import batches, parameter_space, replicas
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
        synchronized: Whether layers sum over the replicas by themselves, or may do so.

    Attributes:
        space: As the argument.
        obstacle: As the argument.
        synchronized: As the argument.
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
        synchronized: bool = False,
    ) -> None:
        self.space = space
        self.obstacle = obstacle
        self.synchronized = synchronized
        self._data = data
        self._loss_of = loss_of
        self._slice_rows = slice_rows
        self._is_sum = is_sum
        self._counts = counts
        self._seed: tf.Tensor | None = None
        self._steps: tf.Tensor | None = None
        self._shares = self._shares_of(data, counts)

    @property
    def example(self) -> objective_lib.Objective:
        """The loss of one of this process's replicas."""
        return self._shares[0].batch.example

    @property
    def traced(self) -> traced_lib.Traced:
        """What one trace of the example shows."""
        return self._shares[0].batch.traced

    def reseed(self, seed: tf.Tensor) -> None:
        """See `batches.Batch.reseed`; each replica draws from seeds of its own."""
        self._seed = seed

    def follow(self, steps: tf.Tensor) -> None:
        """See `batches.Batch.follow`: moving statistics follow the rows of all replicas."""
        self._steps = tf.identity(steps)

    def whole(self) -> replicas.Replicas:
        """Returns the loss of all rows."""
        return self._loss(self._shares, self._counts)

    def first(self, wanted: int) -> replicas.Replicas:
        """Returns the loss of the first rows of the batch of all replicas.

        Args:
            wanted: As of `batches.Batch.first`.
        """
        counts = self._counts
        assert counts is not None
        wanted = rows_lib.of_curvature(wanted, tf.reduce_sum(counts))
        before = tf.cumsum(counts, exclusive=True)
        taken = tf.clip_by_value(wanted - before, 0, counts)
        data = collectives.run(
            lambda own: rows_lib.first(own, taken[collectives.index()]), self._data
        )
        return self._loss(self._shares_of(data, taken), taken)

    def _loss(self, shares: Sequence[_Share], counts: tf.Tensor | None) -> replicas.Replicas:
        parts: dict[int, objective_lib.Loss] = {}
        traced = self.traced
        rows = None if counts is None else tf.reduce_sum(counts)

        def make() -> None:
            index = collectives.index()
            batch = next(share.batch for share in shares if share.replica == index)
            batch.traced = traced
            if self._seed is not None:
                offset = tf.constant([index * _SEEDS_A_REPLICA, 0], self._seed.dtype)
                batch.reseed(self._seed + offset)
            if self._steps is not None:
                batch.follow(self._steps, rows)
            parts[index] = batch.whole()

        collectives.run(make)
        return replicas.Replicas(
            parts,
            self.space,
            counts,
            may_be_empty=any(share.may_be_empty for share in shares),
            padded=any(share.padded for share in shares),
            is_sum=self._is_sum,
            # What is held constant would have to leave the compiled function of its replica.
            can_be_compiled=not self.synchronized and not traced.stops_gradient,
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
                functools.partial(self._weighted, counts),
                self.space,
                slice_rows=self._slice_rows,
            )
            # The example too is made where the weight of its rows is known.
            shares.append(_Share(collectives.index(), batch, batch.example, may_be_empty, padded))

        collectives.run(make, data)
        return sorted(shares, key=lambda share: share.replica)

    def _weighted(self, counts: tf.Tensor | None, own: Any) -> objective_lib.LossFunction:
        """Returns the loss function of one replica's rows, weighed by how many these are."""
        loss_fn = self._loss_of(own)
        if counts is None or self._is_sum:
            return loss_fn
        weight = replicas.fraction(counts) * collectives.number()

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
