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

from keras_sfn.backend import graphs
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import parameter_space

# Far apart, so that the i-th generator of one slice never has the seed of another slice's.
_SEEDS_A_SLICE = 2**16


class Slices:
    """A batch that is evaluated slice by slice.

    Args:
        data: Nested structure of tensors with the rows along the first axis, or None.
        size: Rows of a slice; the last may have fewer.
        loss_of: Function of a structure like `data` that returns a loss function, which in turn
            returns `(loss, outputs)`.
    """

    def __init__(
        self,
        data: Any,
        size: int,
        loss_of: Callable[[Any], Callable[[], tuple[tf.Tensor, Any]]],
    ) -> None:
        self.size = size
        self._loss_of = loss_of
        self._first = next(part for part in keras.tree.flatten(data) if part is not None)
        self._data = data
        rows = self.rows()
        if not isinstance(rows, int):
            # XLA compiles a whole slice also for a batch that has none.
            missing = tf.maximum(size - rows, 0)
            self._data = keras.tree.map_structure(lambda part: pad_rows(part, missing), data)

    def rows(self) -> Any:
        """Returns the number of rows: an integer where it is known, or a scalar tensor."""
        static = self._first.shape[0]
        return tf.shape(self._first)[0] if static is None else int(static)

    def loss_fn(self, start: Any, count: Any) -> Callable[[], tuple[tf.Tensor, Any]]:
        """Returns the loss function of `count` rows from `start` on."""
        return self._loss_of(take_rows(self._data, start, count))


def take_rows(data: Any, start: Any, count: Any) -> Any:
    """Returns `count` rows from `start` on of each part of a batch; None stays None."""

    def take(part: Any) -> Any:
        if part is None:
            return None
        # Whole sizes, since XLA cannot work out a rest where the start varies.
        tail = _row_shape(part)
        return tf.slice(part, [start, *[0] * len(tail)], [count, *tail])

    return keras.tree.map_structure(take, data)


def pad_rows(part: Any, missing: tf.Tensor) -> Any:
    """Returns a part of a batch with so many rows of zeros after its own; None stays None."""
    if part is None:
        return None
    return tf.concat([part, tf.zeros([missing, *_row_shape(part)], part.dtype)], axis=0)


def _row_shape(part: tf.Tensor) -> list[Any]:
    dynamic = tf.shape(part)
    return [n if n is not None else dynamic[1 + i] for i, n in enumerate(part.shape[1:])]


class MicroBatches:
    """Like `objective.Objective`, for a batch in slices.

    Args:
        slices: The batch.
        space: The variables that are the function's argument.

    Attributes:
        seed_generators: As of `objective.Objective`.
    """

    def __init__(self, slices: Slices, space: parameter_space.ParameterSpace) -> None:
        self.space = space
        self.seed_generators: list[keras.Variable] = []
        self._slices = slices
        self._seed: tf.Tensor | None = None
        self._draws: list[Any] = []
        self._updated: list[keras.Variable] = []
        self._outputs: Any = None
        self._specs: list[tf.TensorSpec] = []

    def reseed(self, seed: tf.Tensor) -> None:
        """See `objective.Objective.reseed`."""
        self._seed = seed

    def example(self) -> objective_lib.Objective:
        """Returns the first slice's objective, after a trace that tells what a slice gives.

        Raises:
            NotImplementedError: The loss calls `stop_gradient`, whose values would have to be kept
                for each slice.
        """
        rows, size = self._slices.rows(), self._slices.size
        part = self._part(0, 0, min(size, rows) if isinstance(rows, int) else size)

        def evaluate(point: tf.Tensor) -> tf.Tensor:
            evaluation = part.evaluate(self.space.unflatten(point))
            self._updated = [variable for variable, _ in evaluation.updates]
            self._outputs = evaluation.outputs
            return evaluation.loss

        graph = graphs.trace(evaluate, tf.TensorSpec((self.space.size,), self.space.dtype))
        if graphs.calls_stop_gradient(graph):
            raise NotImplementedError(
                "`micro_batch_size` cannot be used with a loss that calls `stop_gradient`: what it "
                "stops must stay constant within a step, for each slice. Received: "
                f"micro_batch_size={size}. Use micro_batch_size=None and a smaller batch."
            )
        flat = keras.tree.flatten(self._outputs)
        self._specs = [tf.TensorSpec(output.shape, output.dtype) for output in flat]
        self._outputs = keras.tree.map_structure(lambda _: None, self._outputs)
        self.seed_generators = part.seed_generators
        return part

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
        del hold_constants  # `example` refuses losses that have any.

        def compute(part: objective_lib.Objective) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
            evaluation, gradient = part.evaluation_and_gradient(point)
            moved = [value for _, value in evaluation.updates]
            return [evaluation.loss, gradient, *moved], keras.tree.flatten(evaluation.outputs)

        zeros = [
            tf.zeros((), self.space.dtype),
            tf.zeros((self.space.size,), self.space.dtype),
            *(tf.zeros(v.shape, v.value.dtype) for v in self._updated),
        ]
        (loss, gradient, *values), outputs = self._run(compute, zeros, self._specs)
        updates = list(zip(self._updated, values, strict=True))
        packed = keras.tree.pack_sequence_as(self._outputs, outputs)
        return objective_lib.Evaluation(loss, packed, updates), gradient

    def _part(self, index: Any, start: Any, count: Any) -> objective_lib.Objective:
        part = objective_lib.Objective(
            self._slices.loss_fn(start, count), self.space, draws=self._draws
        )
        if self._seed is not None:
            offset = tf.cast(_SEEDS_A_SLICE * tf.convert_to_tensor(index), self._seed.dtype)
            part.reseed(self._seed + tf.stack([offset, tf.zeros_like(offset)]))
        return part

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
        rows, size = self._slices.rows(), self._slices.size
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
        _, totals, arrays = tf.while_loop(lambda index, *_: index < full, body, start)
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
    return value * (tf.cast(count, value.dtype) / tf.cast(rows, value.dtype))


def _add(totals: list[tf.Tensor], values: list[tf.Tensor]) -> list[tf.Tensor]:
    return [
        total + value if value.dtype.is_floating else value
        for total, value in zip(totals, values, strict=True)
    ]


def _tail(spec: tf.TensorSpec) -> list[int]:
    """The shape of a row."""
    return list(spec.shape[1:])
