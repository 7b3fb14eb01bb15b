"""How far to go along a direction that an average of gradients of noisy batches gives.

For a direction d that was made before a batch was seen, with g and H of that batch, the expected
loss along d is L + a g'd + a^2 d'Hd / 2. Averages of g'd and of |d'Hd| over batches give the length
a = -g'd / |d'Hd|. Noise in d adds to d'Hd and not to g'd, so that lengths fall by themselves where
noise hides the slope. The absolute value is what is saddle-free: along negative curvature a step
goes downhill, as far as |d'Hd| says, and not up to the saddle. Where the loss itself, a step
farther, is above what the model says, the larger curvature that it shows counts.

What is best for the next step alone is too short for many. So a step may always be so long that its
curvature raises the loss by a part of what batches differ by. Which part is found out: longer steps
go faster along the valley and stand higher above its floor. How high is seen against the mean of
the points of the last steps. Where the loss falls as a power of the number of steps, a factor on
lengths changes the one by as much as the other when the height is what the loss falls by while the
number of steps grows by a factor of e. A small part of that is aimed at, so that no schedule is
needed.

A loss that leaves the range of those before it is a runaway: the parameters go back to the mean
point, and the length to a fraction.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

# How old averages fade at each look, and in each step those of the slope and of the loss.
FADING = 0.8
SLOPE_FADING = 0.95
_LOSS_FADING = 0.9

# By how many of its standard errors the mean slope is raised: noise alone must not end a training.
OPTIMISM = 1.0

# A factor on lengths.
REACH = 1.0

# A step may always be so long that its curvature raises the loss by a part of the deviation of the
# losses: at first by this one; later by more or less, as logarithms of a factor, and of its change
# at a look.
ALLOWED = 1e-2
_MORE = (-2.0, 6.0)
_CHANGE = 0.1

# The height above the floor of the valley that is aimed at, over the fall of the loss while steps
# grow by a factor of e.
HEIGHT = 0.2

# What a height counts as at least, likewise.
_LEAST_HEIGHT = 1e-3

# Steps before that fall is known, and those of which the mean point is.
_KNOWN = 50
MEAN_OF = 30

# A training of fewer steps does not end at the mean point: it is as many steps behind as it has.
_LONG = 10 * MEAN_OF

# Powers of the number of a step with which losses are weighed, for two means of them.
_EARLY_POWER, _LATE_POWER = 1.0, 3.0

# Of so many steps and more these means are as of so many.
_LONGEST = 10_000.0

# The first length, as a part of what the first batch alone asks for: its slope is that of the
# gradient of which the direction was made.
_FIRST = 0.1

# By how much a length may change at a look.
GROWTH, SHRINKAGE = 1.2, 0.5

# Steps of the start, after each of which there is a look; later there is one in so many.
_OFTEN = 10
_RARELY = (5, 10)
_SETTLED = 100

# How many mean deviations, and what part of the mean besides, a loss may be above the mean.
_DEVIATIONS, _PART, _PART_AT_FIRST = 8.0, 0.2, 0.5

# A bend of the loss along a step is seen from this part of the loss on.
_VISIBLE = 1e-4

# A length after a runaway, over that of before, and by what factor a step it may grow from there:
# looks alone would bring it back within a few steps, and further with every runaway.
_RETREAT = 0.5
_RETURN = 1.01

# How far a look may move the mean curvature, as a factor.
_FARTHEST = 100.0


class State(NamedTuple):
    """Scalars that an optimizer holds as one vector.

    Attributes:
        steps: Of this kind so far, since the last runaway.
        slope: Mean of -g'd over steps.
        slope_square: Mean of its square.
        curvature: Geometric mean of |d'Hd|. It falls by orders of magnitude while lengths grow,
            which an arithmetic mean would follow late.
        length: Of steps.
        loss: Mean of the losses.
        deviation: Mean absolute deviation of the losses from their mean.
        rayleigh: d'Hd / d'd at the last look.
        ratio: Of the actual to the predicted reduction at the last look.
        early: Mean of the losses, of which later ones count more.
        late: Likewise, still more.
        gain: Mean of the loss less that at the mean point.
        since: Steps since a training ended, or a runaway.
        ceiling: What the length is at most; zero before the first runaway.
        more: Logarithm of the part of the deviation by which the curvature of a step may raise the
            loss, over the first such part.
    """

    steps: tf.Tensor
    slope: tf.Tensor
    slope_square: tf.Tensor
    curvature: tf.Tensor
    length: tf.Tensor
    loss: tf.Tensor
    deviation: tf.Tensor
    rayleigh: tf.Tensor
    ratio: tf.Tensor
    early: tf.Tensor
    late: tf.Tensor
    gain: tf.Tensor
    since: tf.Tensor
    ceiling: tf.Tensor
    more: tf.Tensor


# The vector at the start.
INITIAL = State(*len(State._fields) * [0.0])


class Look(NamedTuple):
    """What a batch shows along a direction that was made before.

    Attributes:
        slope: Scalar, -g'd.
        curvature: Scalar, d'Hd.
        square: Scalar, d'd.
        loss: Scalar, of the batch.
        trial_loss: Scalar, a length farther.
        mean_loss: Scalar, at the mean of the last points.
    """

    slope: tf.Tensor
    curvature: tf.Tensor
    square: tf.Tensor
    loss: tf.Tensor
    trial_loss: tf.Tensor
    mean_loss: tf.Tensor


def is_due(state: State) -> tf.Tensor:
    """Returns whether a step looks at the curvature, a scalar boolean."""
    steps = tf.cast(state.steps, tf.int32)
    often, rarely = _RARELY
    period = tf.where(steps < _SETTLED, often, rarely)
    return (steps < _OFTEN) | tf.equal(steps % period, 0)


def ran_away(state: State, loss: tf.Tensor) -> tf.Tensor:
    """Returns whether a loss is not finite or far above those before it, a scalar boolean.

    Args:
        state: Before the step.
        loss: Of the batch.
    """
    part = tf.where(state.steps < _OFTEN, _PART_AT_FIRST, _PART)
    bound = (
        state.loss + _DEVIATIONS * state.deviation + tf.cast(part, loss.dtype) * tf.abs(state.loss)
    )
    # Nothing has moved before there is a length: batches of which no row counts have none.
    return ~tf.math.is_finite(loss) | ((state.length > 0) & (loss > bound))


def optimistic_slope(state: State) -> tf.Tensor:
    """Returns the mean slope, raised by what its error may be.

    Args:
        state: Of the length.
    """
    variance = tf.maximum(state.slope_square - state.slope**2, 0)
    several = (1 - SLOPE_FADING) / (1 + SLOPE_FADING)
    share = tf.maximum(1 / tf.maximum(state.steps, 1), tf.cast(several, variance.dtype))
    return state.slope + OPTIMISM * tf.sqrt(variance * share)


def sloped(state: State, slope: tf.Tensor) -> State:
    """Returns the state with the slope of one more batch.

    Args:
        state: Before the step.
        slope: -g'd of the direction of the step before; not finite where the step ran away.
    """
    kept = tf.minimum(state.steps / (state.steps + 1), SLOPE_FADING)
    kept = tf.where(tf.math.is_finite(slope), kept, tf.ones_like(kept))
    slope = tf.where(tf.math.is_finite(slope), slope, tf.zeros_like(slope))
    return state._replace(
        slope=kept * state.slope + (1 - kept) * slope,
        slope_square=kept * state.slope_square + (1 - kept) * slope**2,
    )


def looked(state: State, look: Look) -> State:
    """Returns the state after a look; the same where that is not finite.

    Args:
        state: Before it.
        look: What was seen.
    """
    length = state.length
    model = -length * look.slope + length**2 * look.curvature / 2
    actual = look.trial_loss - look.loss
    bend = actual + length * look.slope
    # What cannot be told from rounding shows nothing.
    visible = tf.abs(bend) > _VISIBLE * (tf.abs(look.loss) + tf.abs(actual))
    shown = tf.where(visible, 2 * tf.math.divide_no_nan(bend, length**2), tf.zeros_like(bend))
    curvature = tf.maximum(tf.abs(look.curvature), shown)
    first = state.curvature <= 0
    moved = tf.clip_by_value(
        tf.math.divide_no_nan(curvature, state.curvature), 1 / _FARTHEST, _FARTHEST
    )
    mean = tf.where(first, curvature, state.curvature * moved ** (1 - FADING))
    wanted = REACH * tf.math.divide_no_nan(tf.maximum(optimistic_slope(state), 0), mean)
    state = _allowing(state, look)
    hidden = tf.sqrt(
        2 * ALLOWED * tf.exp(state.more) * tf.math.divide_no_nan(state.deviation, mean)
    )
    wanted = tf.maximum(wanted, hidden)
    bounded = tf.clip_by_value(wanted, SHRINKAGE * length, GROWTH * length)
    following = tf.where(length > 0, bounded, _FIRST * wanted)
    following = tf.where(state.ceiling > 0, tf.minimum(following, state.ceiling), following)
    after = state._replace(
        curvature=mean,
        length=following,
        rayleigh=tf.math.divide_no_nan(look.curvature, look.square),
        ratio=tf.math.divide_no_nan(actual, model),
    )
    # A trial that is not finite is too far, whatever else is seen.
    beyond = state._replace(length=SHRINKAGE * length)
    exact = tf.reduce_all(tf.math.is_finite(tf.stack([look.slope, look.curvature, look.loss])))
    finite = exact & tf.math.is_finite(look.trial_loss)
    return State(*(tf.where(finite, a, b) for a, b in zip(after, beyond, strict=True)))


def fall(state: State) -> tf.Tensor:
    """Returns by what the loss falls while the number of steps grows by a factor of e.

    With weights s^p on the losses of steps s up to t, the mean of ln(s / t) is -1 / (p + 1).

    Args:
        state: After some steps.
    """
    apart = 1 / (_EARLY_POWER + 1) - 1 / (_LATE_POWER + 1)
    return tf.minimum((state.early - state.late) / apart, tf.abs(state.loss))


def ends_at_mean_point(state: State) -> tf.Tensor:
    """Returns whether the mean point is where a training had better end, a scalar boolean.

    Args:
        state: After its last step.
    """
    return (state.gain > 0) & (state.since >= _LONG)


def _allowing(state: State, look: Look) -> State:
    """Returns the state with the height seen once more, and what it allows."""
    seen = look.loss - look.mean_loss
    finite = tf.math.is_finite(seen)
    gain = tf.where(finite, FADING * state.gain + (1 - FADING) * seen, state.gain)
    steps = tf.clip_by_value(state.steps, 1, _LONGEST)
    falls = tf.maximum(fall(state), 0)
    # The mean point is of so many steps before, when the loss was higher.
    lag = tf.minimum(steps, MEAN_OF) / steps * falls
    height = tf.maximum(gain + lag, _LEAST_HEIGHT * falls)
    wanted = HEIGHT * tf.math.divide_no_nan(falls, height)
    change = tf.clip_by_value(tf.math.log(wanted), -_CHANGE, _CHANGE)
    more = tf.clip_by_value(state.more + change, *_MORE)
    return state._replace(gain=gain, more=tf.where(state.steps < _KNOWN, state.more, more))


def stepped(state: State, loss: tf.Tensor, away: tf.Tensor) -> State:
    """Returns the state after a step.

    Args:
        state: Before it, after a look if there was one.
        loss: Of the batch, before the step.
        away: Whether that ran away.
    """
    first = tf.equal(state.steps, 0)
    kept = tf.where(first, tf.zeros_like(loss), _LOSS_FADING * tf.ones_like(loss))
    mean = kept * state.loss + (1 - kept) * loss
    deviation = kept * state.deviation + (1 - kept) * tf.abs(loss - mean)
    steps = state.steps + 1
    number = tf.minimum(steps, _LONGEST)
    after = state._replace(
        steps=steps,
        since=state.since + 1,
        ceiling=_RETURN * state.ceiling,
        loss=mean,
        deviation=deviation,
        early=_weighed(state.early, loss, number, _EARLY_POWER),
        late=_weighed(state.late, loss, number, _LATE_POWER),
    )
    back = state._replace(
        steps=tf.ones_like(state.steps),
        curvature=state.curvature / _RETREAT,
        length=_RETREAT * state.length,
        ceiling=_RETREAT * state.length,
        # A bound that stays would stop training for good where the data have changed.
        deviation=2 * state.deviation + 0.1 * tf.abs(state.loss),
        early=state.loss,
        late=state.loss,
        since=tf.zeros_like(state.since),
        more=tf.zeros_like(state.more),
    )
    return State(*(tf.where(away, a, b) for a, b in zip(back, after, strict=True)))


def _weighed(mean: tf.Tensor, loss: tf.Tensor, number: tf.Tensor, power: float) -> tf.Tensor:
    return mean + (power + 1) / (number + power) * (loss - mean)
