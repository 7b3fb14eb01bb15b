"""Whether batches differ and are noisy, as optimizer state.

Steps on the whole of the data lower one function. Steps on batches lower another one each time, and
where the gradients of batches are noisy, what a step finds out about its own batch in several
products is of little use to the next. Then one gradient a step and averages over steps do more.

Where the loss itself draws random numbers (dropout, a variational autoencoder), steps on the same
rows lower another function each time too.

Two things are asked. Do batches differ? The sums of a batch's data are compared with those of the
last batch; before the first step they are taken to. Where `fit` says that an epoch is one batch,
they do not. Is the noise large? From the two halves of the rows, with gradients g and h: the
noise of the whole batch's gradient is |g - h|^2 / 4 in the mean, its square without noise g'h.
Their ratio is B_noise / B with the noise scale of McCandlish et al. The halves draw random numbers
of their own. Where an epoch is one batch, gradients of all rows with two draws of the random
numbers are compared, whose noise is |g - h|^2 / 2.

Reference: McCandlish et al., An empirical model of large-batch training, 2018,
https://arxiv.org/abs/1812.06162.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_sfn.curvature import survey as survey_lib
from keras_sfn.krylov import vectors
from keras_sfn.objective import batches, parameter_space, replica_batch
from keras_sfn.objective import objective as objective_lib
from keras_sfn.optimizers import step_program

# Steps from one measurement of the noise to the next.
PERIOD = 20

# Noise over signal from which on batches count as noisy, and below which they no longer do. It
# grows by orders of magnitude while a training goes on: what is a little noisy at its start is
# very much so later.
NOISY, CALM = 0.004, 0.001

_FADING = 0.8

# Sums that differ by less, relative to those of absolute values, are of the same rows in another
# order.
_ROUNDING = 1e-5


class State(NamedTuple):
    """Scalars that an optimizer holds as one vector.

    Attributes:
        steps: Taken so far.
        total: First sum of the last batch's data.
        squares: Second sum.
        cosines: Third sum.
        noise: Mean of the noise.
        signal: Mean of the squared gradient without noise.
        measurements: Of both.
        noisy: 1 where steps are of the kind for noisy batches.
    """

    steps: tf.Tensor
    total: tf.Tensor
    squares: tf.Tensor
    cosines: tf.Tensor
    noise: tf.Tensor
    signal: tf.Tensor
    measurements: tf.Tensor
    noisy: tf.Tensor


class BatchNoise:
    """Holds what is known of the batches.

    Args:
        add_variable: `keras.optimizers.Optimizer.add_variable` of the optimizer.
    """

    def __init__(self, add_variable: Callable[..., keras.Variable]) -> None:
        self._state = add_variable(
            shape=(len(State._fields),),
            dtype="float32",
            aggregation="only_first_replica",
            name="batch_noise",
        )

    def is_noisy(self) -> bool:
        """Whether batches were noisy when that was last asked; not in a graph."""
        return bool(self._state.numpy()[State._fields.index("noisy")])

    def is_known(self) -> bool:
        """Whether that was asked at all; not in a graph."""
        return bool(self._state.numpy()[State._fields.index("steps")] > 0)

    def look(
        self,
        batch: batches.Batch | replica_batch.ReplicaBatch,
        loss: survey_lib.FrozenLoss,
        *,
        several: bool,
        draws: bool,
    ) -> None:
        """Notes whether batches differ and are noisy, at the first step and every so often.

        Args:
            batch: Of which parts may be taken where there are several.
            loss: Of the batch.
            several: Whether batches may differ.
            draws: Whether the loss draws random numbers.
        """
        state = State(*tf.unstack(self._state.value))
        total, size = batch.fingerprint()
        last = tf.stack([state.total, state.squares, state.cosines])
        same = tf.reduce_all(tf.abs(total - last) <= _ROUNDING * size)
        first = tf.equal(state.steps, 0)
        other = tf.constant(True) if draws else first | ~same
        has_halves = batch.has_halves() if several else tf.constant(True)
        due = tf.equal(state.steps % PERIOD, 0)
        measured = due & other & has_halves
        noise, signal = tf.cond(
            measured,
            lambda: self._measured(batch, loss, state, several),
            lambda: (state.noise, state.signal),
        )
        bound = tf.where(state.noisy > 0, CALM, NOISY)
        noisy = measured & (noise > bound * tf.maximum(signal, 0))
        # A batch of one row has no parts; it is as noisy as can be.
        noisy = tf.where(due, noisy | (other & ~has_halves), state.noisy > 0)
        state = State(
            steps=state.steps + 1,
            total=total[0],
            squares=total[1],
            cosines=total[2],
            noise=noise,
            signal=signal,
            measurements=state.measurements + tf.cast(measured, tf.float32),
            noisy=tf.cast(noisy, tf.float32),
        )
        self._state.assign(tf.stack(state))

    def _measured(
        self,
        batch: batches.Batch | replica_batch.ReplicaBatch,
        loss: survey_lib.FrozenLoss,
        state: State,
        in_halves: bool,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the means of noise and signal with one more measurement."""

        def measure(_: bool) -> tuple[tf.Tensor, tf.Tensor]:
            if in_halves:
                return of_two(batch.half, loss.whole.space, 4)
            return of_two(batch.redrawn, loss.whole.space, 2)

        noise, signal = step_program.compiled(measure, loss, False)()
        kept = tf.minimum(state.measurements / (state.measurements + 1), _FADING)
        finite = tf.math.is_finite(noise) & tf.math.is_finite(signal)
        kept = tf.where(finite, kept, 1.0)
        noise, signal = (tf.where(finite, value, 0.0) for value in (noise, signal))
        return (
            kept * state.noise + (1 - kept) * noise,
            kept * state.signal + (1 - kept) * signal,
        )


def of_two(
    losses: Callable[[tf.Tensor], objective_lib.Loss],
    space: parameter_space.ParameterSpace,
    divisor: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the noise of the gradient of a batch, and its square without noise, in float32.

    Args:
        losses: Maps 0 and 1 to two losses whose gradients have noise of their own.
        space: What is trained; the gradients are taken at its values.
        divisor: Of the squared difference: 2 where they are of as many rows as the batch, 4 where
            they are of half of them.
    """
    point = space.values()

    def body(index: tf.Tensor, last: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return index + 1, losses(index).gradient(point), last

    zero = tf.zeros((space.size,), space.dtype)
    _, first, second = tf.while_loop(
        lambda index, *_: index < 2, body, (tf.constant(0), zero, zero), parallel_iterations=1
    )
    difference = first - second
    noise = vectors.dot(difference, difference) / divisor
    signal = vectors.dot(first, second)
    return tf.cast(noise, tf.float32), tf.cast(signal, tf.float32)
