"""The loss of a batch that does not fit into memory, as the weighted sum of its slices' losses.

Loss, gradient, Hessian-vector products and candidates of one step are each computed slice by slice
inside the compiled step, so that activations take the memory of one slice. For a loss that is a
mean over rows,

    f(x) = sum over slices s of (rows of s / rows) f_s(x)

holds to rounding, regularisation included, since each f_s has it once and the weights sum to one.
Two things are a slice's own: a BatchNormalization normalises by the statistics of its slice, and
each slice has its own dropout mask. Moving statistics move once a step, by the mean of what the
slices would have moved them by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_sfn.objective import moving_statistics, parameter_space
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import rows as rows_lib
from keras_sfn.objective import traced as traced_lib

# Far apart, so that the i-th generator of one slice never has the seed of another slice's.
_SEEDS_A_SLICE = 2**16


class MicroBatches:
    """Like `objective.Objective`, for a batch in slices.

    Args:
        data: Nested structure of tensors with the rows along the first axis, or None.
        size: Rows of a slice; the last may have fewer.
        loss_of: Maps a structure like `data` to a loss function.
        space: The variables that are the function's argument.
        traced: What the trace of one slice's loss shows.
        draws: As of `objective.Objective`.
        seed: As of `objective.Objective`; each slice draws from seeds of its own.
        pace: As of `objective.Objective`, with the rows of all slices.
        place: Where the rows of all slices lie in the batch; None where they are all of it.

    Raises:
        NotImplementedError: The loss calls `stop_gradient`, whose values would have to be kept for
            each slice.
    """

    def __init__(
        self,
        data: Any,
        size: int,
        loss_of: objective_lib.LossOf,
        space: parameter_space.ParameterSpace,
        traced: traced_lib.Traced,
        *,
        draws: list[Any] | None = None,
        seed: tf.Tensor | None = None,
        pace: moving_statistics.Pace | None = None,
        place: rows_lib.Place | None = None,
    ) -> None:
        if traced.error is not None:
            raise traced.error
        if traced.stops_gradient:
            raise NotImplementedError(
                "`micro_batch_size` cannot be used with a loss that calls `stop_gradient`: what it "
                "stops must stay constant within a step, for each slice. Received: "
                f"micro_batch_size={size}. Use micro_batch_size=None and a smaller batch."
            )
        self.space = space
        self._size = size
        self._loss_of = loss_of
        known = rows_lib.static_count(data)
        self._rows = rows_lib.count(data) if known is None else known
        # XLA compiles a whole slice also for a batch that has none.
        self._data = rows_lib.padded(data, size)
        self._traced = traced
        self._draws: list[Any] = [] if draws is None else draws
        self._seed = seed
        self._pace = pace
        self._place = place or rows_lib.Place(0, self._rows, self._rows)

    def over_parts(
        self, compute: Callable[[objective_lib.Objective], tf.Tensor], shape: tuple[int, ...]
    ) -> tf.Tensor:
        """Returns the weighted sum of what `compute` gives for each slice's objective."""
        zero = tf.zeros(shape, self.space.dtype)
        [total], _ = self._run(lambda part: ([compute(part)], []), [zero], [])
        return total

    def loss(self, point: parameter_space.Point) -> tf.Tensor:
        """See `objective.Objective.loss`."""
        return self.over_parts(lambda part: part.loss(point), ())

    def gradient(self, point: parameter_space.Point) -> tf.Tensor:
        """See `objective.Objective.gradient`."""
        return self.over_parts(lambda part: part.gradient(point), (self.space.size,))

    def evaluation_and_gradient(
        self, point: parameter_space.Point, *, hold_constants: bool = False
    ) -> tuple[objective_lib.Evaluation, tf.Tensor]:
        """See `objective.Objective.evaluation_and_gradient`; the outputs are those of all rows."""
        del hold_constants  # Losses that have any are refused.
        traced = self._traced

        def compute(part: objective_lib.Objective) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
            evaluation, gradient = part.evaluation_and_gradient(point)
            moved = [value for _, value in evaluation.updates]
            return [evaluation.loss, gradient, *moved], keras.tree.flatten(evaluation.outputs)

        zeros = [
            tf.zeros((), self.space.dtype),
            tf.zeros((self.space.size,), self.space.dtype),
            *(tf.zeros(v.shape, v.value.dtype) for v in traced.updated),
        ]
        specs = keras.tree.flatten(traced.outputs)
        (loss, gradient, *values), outputs = self._run(compute, zeros, specs)
        updates = list(zip(traced.updated, values, strict=True))
        packed = keras.tree.pack_sequence_as(traced.outputs, outputs)
        return objective_lib.Evaluation(loss, packed, updates), gradient

    def _part(self, index: Any, start: Any, count: Any) -> objective_lib.Objective:
        seed = self._seed
        if seed is not None:
            offset = tf.cast(_SEEDS_A_SLICE * tf.convert_to_tensor(index), seed.dtype)
            seed = seed + tf.stack([offset, tf.zeros_like(offset)])
        loss_fn = self._loss_of(rows_lib.take(self._data, start, count))
        of_all = self._place
        own = rows_lib.Place(
            of_all.before + start,
            count,
            of_all.total,
            _part_of(count, self._rows, self.space.dtype),
        )
        return objective_lib.Objective(
            loss_fn, self.space, draws=self._draws, seed=seed, pace=self._pace, place=own
        )

    def _run(
        self,
        compute: Callable[[objective_lib.Objective], tuple[list[tf.Tensor], list[tf.Tensor]]],
        totals: list[tf.Tensor],
        outputs: list[tf.TensorSpec],
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Runs over the slices; returns weighted sums, and outputs joined along the rows.

        Args:
            compute: Part -> tensors to sum, and outputs with rows.
            totals: Zeros of the shapes to sum.
            outputs: What the outputs of one slice look like.
        """
        rows, size = self._rows, self._size
        full = rows // size
        rest = rows - full * size

        def slice_of(index: Any, start: Any, count: Any) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
            values, outs = compute(self._part(index, start, count))
            return [_weigh(value, count, rows) for value in values], outs

        def body(index: tf.Tensor, totals: Any, arrays: Any) -> tuple[Any, Any, Any]:
            values, outs = slice_of(index, index * size, size)
            arrays = [array.write(index, out) for array, out in zip(arrays, outs, strict=True)]
            return index + 1, _add(totals, values), arrays

        arrays = [
            tf.TensorArray(spec.dtype, full, element_shape=(size, *spec.shape[1:]))
            for spec in outputs
        ]
        start = (tf.constant(0), totals, arrays)
        _, totals, arrays = tf.while_loop(
            lambda index, *_: index < full, body, start, parallel_iterations=1
        )
        joined = [
            tf.reshape(array.stack(), [full * size, *_tail(spec)])
            for array, spec in zip(arrays, outputs, strict=True)
        ]
        if isinstance(rest, int) and rest == 0:
            return totals, joined

        # With no rest the branch is only compiled, on one row, since layers may refuse zero rows.
        count = rest if isinstance(rest, int) else tf.maximum(rest, 1)

        def with_rest() -> tuple[list[tf.Tensor], list[tf.Tensor]]:
            values, outs = slice_of(full, rows - count, count)
            tails = [out[:rest] for out in outs]
            return _add(totals, values), [
                tf.concat(pair, axis=0) for pair in zip(joined, tails, strict=True)
            ]

        def without() -> tuple[list[tf.Tensor], list[tf.Tensor]]:
            tails = [tf.zeros([rest, *_tail(spec)], spec.dtype) for spec in outputs]
            return totals, [tf.concat(pair, axis=0) for pair in zip(joined, tails, strict=True)]

        if isinstance(rest, int):
            return with_rest()
        return tf.cond(rest > 0, with_rest, without)


def _weigh(value: tf.Tensor, count: Any, rows: Any) -> tf.Tensor:
    if not value.dtype.is_floating:
        return value  # A counter or a seed moves alike in every slice.
    return value * _part_of(count, rows, value.dtype)


def _part_of(count: Any, rows: Any, dtype: Any) -> tf.Tensor:
    return tf.cast(count, dtype) / tf.cast(rows, dtype)


def _add(totals: list[tf.Tensor], values: list[tf.Tensor]) -> list[tf.Tensor]:
    return [
        total + value if value.dtype.is_floating else value
        for total, value in zip(totals, values, strict=True)
    ]


def _tail(spec: tf.TensorSpec) -> list[int]:
    """The shape of a row."""
    return list(spec.shape[1:])
