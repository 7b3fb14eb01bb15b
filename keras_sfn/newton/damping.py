"""How much damping a step gets: a fixed value, a search over a grid, or Levenberg-Marquardt's rule.

Each policy has one method, `choose`, which takes the loss restricted to the subspace and returns
the next position in it. Damping is in units of curvature (loss per parameter squared), or
relative to a preconditioner where the subspace is made with one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from keras_sfn.krylov import precision
from keras_sfn.newton import directions

# Stored in place of a damping that no step has set yet.
UNSET = -1.0

# Levenberg-Marquardt starts at this fraction of the largest |Ritz value|, as in Madsen, Nielsen and
# Tingleff, Methods for Non-Linear Least Squares Problems (2004), section 3.2.
_INITIAL_FRACTION = 1e-3

# Of one step. With the growth doubling at each failure, six raise the damping by up to 2^15.
_MOST_TRIALS = 6

# A step with a damping of so many times the largest curvature is a small part of a safe one.
_SHORT = 1e3

# How often a step is doubled where the model has no bound along it.
_MOST_DOUBLINGS = 12


class SubspaceLoss(NamedTuple):
    """The loss of the batch restricted to the subspace, in the basis of Ritz vectors.

    Attributes:
        ritz_values: Shape (k,).
        loss: Maps a position of shape (k,) to the scalar loss there.
        clip: Maps a position to the nearest one within the allowed step length.
        learning_rate: Scalar factor on every direction.
        direction: Maps Ritz values, the gradient and a damping to the direction: what the method
            makes of the eigenvalues.
    """

    ritz_values: tf.Tensor
    loss: Callable[[tf.Tensor], tf.Tensor]
    clip: Callable[[tf.Tensor], tf.Tensor]
    learning_rate: tf.Tensor
    direction: directions.Direction = directions.saddle_free_direction


class Start(NamedTuple):
    """Where a step in the subspace stands.

    Attributes:
        position: Shape (k,).
        loss: Scalar loss at `position`.
        gradient: Shape (k,), gradient at `position`.
        damping: Scalar, `next_damping` of the step before, or `UNSET`.
    """

    position: tf.Tensor
    loss: tf.Tensor
    gradient: tf.Tensor
    damping: tf.Tensor


class Choice(NamedTuple):
    """What a policy decided.

    Attributes:
        position: Shape (k,), the new position, or the old one where nothing was accepted.
        loss: Scalar loss at `position`.
        trial_loss: Scalar loss of the trial that was accepted, or else of the best or last one;
            infinite where that loss was not finite.
        predicted_reduction: Scalar, what the quadratic model promised for that trial.
        accepted: Scalar boolean.
        damping: Scalar, the damping of the accepted step, or the last one tried.
        next_damping: Scalar, what the next step should start from.
    """

    position: tf.Tensor
    loss: tf.Tensor
    trial_loss: tf.Tensor
    predicted_reduction: tf.Tensor
    accepted: tf.Tensor
    damping: tf.Tensor
    next_damping: tf.Tensor


class Damping(Protocol):
    """A damping policy."""

    @property
    def monotone(self) -> bool:
        """Whether only steps that lower the loss of the batch are accepted."""

    def choose(self, restricted: SubspaceLoss, start: Start) -> Choice:
        """Chooses the next position.

        Args:
            restricted: The loss in the subspace.
            start: Where the step stands.
        """


@dataclasses.dataclass(frozen=True)
class FixedDamping:
    """Always the same damping; every finite step is taken.

    Args:
        value: Damping >= 0, in units of curvature.
    """

    value: float
    monotone: bool = dataclasses.field(default=False, init=False)

    def choose(self, restricted: SubspaceLoss, start: Start) -> Choice:
        """Takes the step with the fixed damping."""
        value = tf.constant(self.value, start.loss.dtype)
        trial = _try(restricted, start, value)
        return _choice(trial, start, tf.math.is_finite(trial.loss), value)


@dataclasses.dataclass(frozen=True)
class SearchDamping:
    """Searches a grid for the damping with the lowest loss on the batch.

    The first step tries every value. Later ones start from the value of the step before and walk
    along the grid, to either side, while the loss falls: about three evaluations instead of one for
    each value. After a step that was rejected every value is tried again.

    The grid is relative to the largest |Ritz value|, so that multiplying the loss by a constant
    leaves the steps as they are. The paper's grid, 10^0 to 10^-6, is absolute and tried in full.

    Args:
        grid: Positive multiples of the largest |Ritz value|.
    """

    grid: tuple[float, ...]
    monotone: bool = dataclasses.field(default=True, init=False)

    def choose(self, restricted: SubspaceLoss, start: Start) -> Choice:
        """Takes the best step found on the grid, if it lowers the loss."""
        ascending = tf.constant(sorted(self.grid), start.gradient.dtype)
        candidates = ascending * _curvature_scale(restricted.ritz_values, start.gradient)
        best = self._search(restricted, start, candidates)
        accepted = best.loss < start.loss
        return _choice(best, start, accepted, tf.where(accepted, best.damping, UNSET))

    def _search(self, restricted: SubspaceLoss, start: Start, candidates: tf.Tensor) -> _Trial:
        """Tries all candidates, or walks from the last damping's neighbour while that helps."""
        damping = start.damping
        everything = damping < 0
        tiny = tf.constant(np.finfo(candidates.dtype.as_numpy_dtype).tiny, candidates.dtype)
        distance = tf.abs(tf.math.log(candidates + tiny) - tf.math.log(tf.maximum(damping, tiny)))
        origin = tf.where(everything, 0, tf.argmin(distance, output_type=tf.int32))

        # One loop for both, and the first trial inside it too: the loss is compiled once, and never
        # outside a loop, where XLA on a CPU has fused the trial point into the model's products
        # and made them hundreds of times slower.
        def body(
            index: tf.Tensor, stride: tf.Tensor, moved: tf.Tensor, best: _Trial
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, _Trial]:
            trial = _try(restricted, start, candidates[index])
            # A trial that is not finite has an infinite loss: it wins over no finite one.
            better = (trial.loss < best.loss) | ~tf.math.is_finite(best.loss)
            moved |= better & tf.not_equal(index, origin)
            following = index + stride
            over = (following < 0) | (following >= len(self.grid)) | ~(better | everything)
            # More damping first; less of it only where more did not help at all.
            turn = over & ~moved & ~everything & (stride > 0)
            index = tf.where(turn, origin - 1, tf.where(over, -1, following))
            best = _Trial(*(tf.where(better, a, b) for a, b in zip(trial, best, strict=True)))
            return index, tf.where(turn, -1, stride), moved, best

        infinite = tf.constant(np.inf, candidates.dtype)
        nothing = _Trial(start.position, infinite, tf.zeros_like(infinite), candidates[0])
        state = (origin, tf.constant(1), tf.constant(False), nothing)
        return tf.while_loop(lambda index, *_: index >= 0, body, state)[3]


@dataclasses.dataclass(frozen=True)
class AdaptiveDamping:
    """Levenberg-Marquardt: the damping follows how well the model predicted the last step.

    With rho the actual over the predicted reduction, an accepted step multiplies the damping by
    max(1/3, 1 - (2 rho - 1)^3). A step that does not lower the loss is tried again in the same
    subspace with the damping times 2, 4, 8, ...; each costs one evaluation of the loss.

    Reference: Nielsen, Damping parameter in Marquardt's method (1999).
    """

    monotone: bool = dataclasses.field(default=True, init=False)

    def choose(self, restricted: SubspaceLoss, start: Start) -> Choice:
        """Takes the first step that lowers the loss, and updates the damping."""
        loss, damping = start.loss, start.damping
        scale = _curvature_scale(restricted.ritz_values, start.gradient)
        first = _within_bounds(tf.where(damping < 0, _INITIAL_FRACTION * scale, damping), scale)

        def cond(count: tf.Tensor, growth: tf.Tensor, trial: _Trial) -> tf.Tensor:
            return (count < _MOST_TRIALS) & ~(trial.loss < loss)

        def body(
            count: tf.Tensor, growth: tf.Tensor, trial: _Trial
        ) -> tuple[tf.Tensor, tf.Tensor, _Trial]:
            # The first time round the trial is a placeholder at the old position.
            value = tf.where(count > 0, trial.damping * growth, trial.damping)
            growth = tf.where(count > 0, growth * 2, growth)
            return count + 1, growth, _try(restricted, start, value)

        nothing = _Trial(start.position, loss, tf.zeros_like(loss), first)
        growth = tf.constant(2, loss.dtype)
        _, _, trial = tf.while_loop(cond, body, (tf.constant(0), growth, nothing))
        accepted = trial.loss < loss
        ratio = reduction_ratio(loss - trial.loss, trial.predicted_reduction)
        nielsen = tf.maximum(1 - (2 * ratio - 1) ** 3, tf.constant(1 / 3, loss.dtype))
        factor = tf.where(accepted, nielsen, 2)
        following = _within_bounds(trial.damping * factor, scale)
        # So short a step is not too long: what is seen of it is rounding. Then more damping does
        # not help.
        back = tf.where(accepted, scale, tf.constant(UNSET, loss.dtype))
        following = tf.where(trial.damping > _SHORT * scale, back, following)
        trial = _extended(restricted, start, trial, accepted & (ratio > 0.5))
        return _choice(trial, start, accepted, following)


def _extended(restricted: SubspaceLoss, start: Start, trial: _Trial, wanted: tf.Tensor) -> _Trial:
    """Returns a multiple of a step where the model says that the loss falls further along it.

    Along negative curvature the model has no bound, and heavy damping stops far from its own.
    """
    step = trial.position - start.position
    theta = restricted.ritz_values
    slope = tf.reduce_sum(step * start.gradient)
    slope_at_end = slope + tf.reduce_sum(step * theta * step)
    wanted &= slope_at_end < 0.5 * slope

    def cond(factor: tf.Tensor, better: tf.Tensor, _: _Trial) -> tf.Tensor:
        return better & (factor < 2.0**_MOST_DOUBLINGS)

    def body(factor: tf.Tensor, _: tf.Tensor, best: _Trial) -> tuple[tf.Tensor, tf.Tensor, _Trial]:
        factor *= 2
        position = restricted.clip(start.position + factor * step)
        predicted = directions.predicted_reduction(theta, start.gradient, position - start.position)
        loss = finite_or_infinity(restricted.loss(position))
        # Not for little: doubling should double what is gained, or nearly so.
        better = start.loss - loss > 1.3 * (start.loss - best.loss)
        found = _Trial(position, loss, predicted, best.damping)
        best = _Trial(*(tf.where(better, a, b) for a, b in zip(found, best, strict=True)))
        return factor, better, best

    state = (tf.ones_like(slope), wanted, trial)
    return tf.while_loop(cond, body, state)[2]


def _within_bounds(damping: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    # Below, the damping is lost in rounding next to the largest curvature. Above, the step is lost,
    # and many rejections (at a minimum, say) would take the damping to infinity, from where it
    # could never come back.
    epsilon = precision.epsilon(damping.dtype)
    largest = tf.minimum(scale / epsilon, damping.dtype.max)
    return tf.clip_by_value(damping, epsilon * scale, largest)


def reduction_ratio(actual: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """Returns actual / predicted reduction, and 0 where nothing was predicted."""
    positive = predicted > 0
    return tf.where(positive, actual / tf.where(positive, predicted, 1), 0)


def finite_or_infinity(loss: tf.Tensor) -> tf.Tensor:
    """Returns a finite loss as it is and plus infinity for any other, which no step accepts."""
    return tf.where(tf.math.is_finite(loss), loss, tf.constant(np.inf, loss.dtype))


class _Trial(NamedTuple):
    """One candidate; its loss is plus infinity where it was NaN or infinite of either sign."""

    position: tf.Tensor
    loss: tf.Tensor
    predicted_reduction: tf.Tensor
    damping: tf.Tensor


def _try(restricted: SubspaceLoss, start: Start, damping: tf.Tensor) -> _Trial:
    direction = restricted.direction(restricted.ritz_values, start.gradient, damping)
    position = restricted.clip(start.position + restricted.learning_rate * direction)
    predicted = directions.predicted_reduction(
        restricted.ritz_values, start.gradient, position - start.position
    )
    return _Trial(position, finite_or_infinity(restricted.loss(position)), predicted, damping)


def _choice(trial: _Trial, start: Start, accepted: tf.Tensor, next_damping: tf.Tensor) -> Choice:
    return Choice(
        position=tf.where(accepted, trial.position, start.position),
        loss=tf.where(accepted, trial.loss, start.loss),
        trial_loss=trial.loss,
        predicted_reduction=trial.predicted_reduction,
        accepted=accepted,
        damping=trial.damping,
        next_damping=next_damping,
    )


def _curvature_scale(ritz_values: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """The largest |Ritz value|; where there is no curvature at all, small against the gradient."""
    epsilon = precision.epsilon(gradient.dtype)
    curvature = tf.reduce_max(tf.abs(ritz_values))
    # The norm in units of the largest coordinate: squares overflow long before the norm does.
    largest = tf.reduce_max(tf.abs(gradient))
    norm = largest * tf.norm(tf.math.divide_no_nan(gradient, largest))
    return tf.maximum(curvature, epsilon**0.5 * norm)
