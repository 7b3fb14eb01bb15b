"""How much work a step spends: its number of directions, and the rows that its curvature is of.

No number is right for all tasks, nor for all of one training. So the levels of a ladder are tried:
a window of steps on the level in use, one on another level, one on the level in use again. The
other level takes over where it reduces the loss more, for the work that is spent, than both windows
around it. (Where the loss falls fast, the window before reduces most, and nothing changes. Windows
differ by chance: a mean of the two let levels take over that were worse.) Work is counted in
gradients, and no clock is read: runs repeat.

A trial means something where all steps lower one function. Where the loss before a step is not that
after the step before (other rows, other dropout), nothing is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

# Steps of a window, and how many of these go by before it counts: damping follows a new level.
WINDOW = 10
_SETTLING = 3

# Steps after which a trial that is far behind ends.
_ENOUGH = 6
_FAR_BEHIND = 0.5

# By how much another level must be better.
_MARGIN = 1.2

# The other levels, relative to the one in use, in the order in which they are tried.
_JUMPS = (1, 2, -1)

# The first and the longest pause between two trials, in windows.
_FIRST_PAUSE = 2
_LONGEST_PAUSE = 16

# Work of a step in gradients of the batch: beside its products; of a product of all rows; of what
# a product needs besides (two solutions with the preconditioner).
_FIXED_WORK = 1.5
_PRODUCT_WORK = 2.0
_SOLVE_WORK = 0.15

# What a step takes beside arithmetic, in that of a gradient: the share of each product in it.
_PRODUCT_OVERHEAD = 0.15

_MEASURES, _TRIES, _MEASURES_AGAIN = range(3)


class Level(NamedTuple):
    """What a step spends.

    Attributes:
        directions: How many preconditioned directions are made.
        share: The curvature is that of one in so many rows.
    """

    directions: int
    share: int


class Effort(NamedTuple):
    """A level as tensors.

    Attributes:
        directions: Scalar integer.
        share: Scalar integer.
    """

    directions: tf.Tensor
    share: tf.Tensor


class State(NamedTuple):
    """Where the search stands: scalars, which an optimizer holds as one vector.

    Attributes:
        level: In use; negative before the first step.
        jump: Index into the jumps: which level is tried next.
        phase: 0: the level in use is measured; 1: another one; 2: again the one in use.
        steps: Of this window.
        reduction: Of the loss, in this window.
        work: Spent in this window.
        drift: Sum of the differences between the loss before a step and that after the last one.
        before: Reduction over work, in the window before the trial.
        tried: The same of the trial.
        pause: Windows until the next trial.
        longest: The pause after a trial that fails.
        last_loss: Of the batch, after the last step.
    """

    level: tf.Tensor
    jump: tf.Tensor
    phase: tf.Tensor
    steps: tf.Tensor
    reduction: tf.Tensor
    work: tf.Tensor
    drift: tf.Tensor
    before: tf.Tensor
    tried: tf.Tensor
    pause: tf.Tensor
    longest: tf.Tensor
    last_loss: tf.Tensor


# The vector at the start.
INITIAL = State(
    level=-1.0,
    jump=0.0,
    phase=0.0,
    steps=0.0,
    reduction=0.0,
    work=0.0,
    drift=0.0,
    before=0.0,
    tried=0.0,
    pause=float(_FIRST_PAUSE),
    longest=1.0,
    last_loss=0.0,
)


class Ladder:
    """The levels that a step may take, from the cheapest to the dearest.

    Args:
        levels: At least one.
        start: Index of that of the first step.
    """

    def __init__(self, levels: Sequence[Level], start: int = 0) -> None:
        self.levels = tuple(levels)
        self._start = start

    @property
    def most_directions(self) -> int:
        """The largest number of directions of any level."""
        return max(level.directions for level in self.levels)

    @property
    def first(self) -> Level:
        """That of the first step."""
        return self.levels[self._start]

    def chosen(self, vector: tf.Tensor) -> tf.Tensor:
        """Returns the level of the next step, a scalar integer.

        Args:
            vector: State of the search.
        """
        state = self._begun(State(*tf.unstack(vector)))
        tries = tf.equal(state.phase, _TRIES)
        return tf.cast(tf.where(tries, self._other(state), state.level), tf.int32)

    def effort(self, vector: tf.Tensor) -> Effort:
        """Returns what the next step spends.

        Args:
            vector: State of the search.
        """
        return Effort(*tf.unstack(tf.gather(tf.constant(self.levels), self.chosen(vector))))

    def following(
        self, vector: tf.Tensor, loss: tf.Tensor, new_loss: tf.Tensor, overhead: tf.Tensor
    ) -> tf.Tensor:
        """Returns the state after a step.

        Args:
            vector: State before the step.
            loss: Scalar loss of the batch before it.
            new_loss: Scalar loss after it.
            overhead: Scalar, what a step takes beside arithmetic, in gradients of the batch.
        """
        if len(self.levels) == 1:
            return vector
        before = self._begun(State(*tf.unstack(vector)))
        # In the precision of the loss: near a minimum the two differ by little.
        reduced = tf.cast(loss - new_loss, vector.dtype)
        loss, new_loss = (tf.cast(value, vector.dtype) for value in (loss, new_loss))
        counts = tf.cast(before.steps >= _SETTLING, vector.dtype)
        state = before._replace(
            steps=before.steps + 1,
            reduction=before.reduction + counts * reduced,
            drift=before.drift + counts * tf.abs(loss - before.last_loss),
            work=before.work + counts * _work(self.effort(vector), overhead),
            last_loss=new_loss,
        )
        rate = tf.math.divide_no_nan(state.reduction, state.work)
        tries = tf.equal(state.phase, _TRIES)
        lost = tries & (state.steps >= _ENOUGH) & (rate < _FAR_BEHIND * state.before)
        over = lost | (state.steps >= WINDOW)
        after = self._next_window(state, rate)
        state = State(*(tf.where(over, a, b) for a, b in zip(after, state, strict=True)))
        # A loss that is not finite says nothing.
        usable = tf.math.is_finite(loss) & tf.math.is_finite(new_loss)
        return tf.where(usable, tf.stack(state), tf.stack(before))

    def _begun(self, state: State) -> State:
        level = tf.clip_by_value(state.level, 0, len(self.levels) - 1.0)
        return state._replace(level=tf.where(state.level < 0, float(self._start), level))

    def _other(self, state: State) -> tf.Tensor:
        jump = tf.gather(tf.constant(_JUMPS, tf.float32), tf.cast(state.jump, tf.int32))
        return tf.clip_by_value(state.level + jump, 0, len(self.levels) - 1.0)

    def _next_window(self, state: State, rate: tf.Tensor) -> State:
        """Returns the state at the beginning of the next window."""
        measures, tries, again = (tf.equal(state.phase, phase) for phase in range(3))
        one_function = state.drift <= 0.5 * state.reduction
        other = self._other(state)
        wins = again & (state.tried > _MARGIN * tf.maximum(tf.maximum(state.before, rate), 0.0))
        fails = again & ~wins
        pause = tf.where(measures, state.pause - 1, state.pause)
        due = measures & one_function & (pause <= 0)
        beyond = due & (tf.equal(other, state.level))
        jump = tf.math.floormod(state.jump + 1, len(_JUMPS))
        all_tried = (fails | beyond) & tf.equal(jump, 0)
        longer = tf.minimum(2 * state.longest, _LONGEST_PAUSE)
        longest = tf.where(wins, 1.0, tf.where(all_tried, longer, state.longest))
        zero = tf.zeros_like(rate)
        return state._replace(
            level=tf.where(wins, other, state.level),
            jump=tf.where(fails | beyond, jump, state.jump),
            phase=tf.where(due & ~beyond, 1.0, tf.where(tries, 2.0, 0.0)),
            steps=zero,
            reduction=zero,
            work=zero,
            drift=zero,
            before=tf.where(measures, rate, state.before),
            tried=tf.where(tries & one_function, rate, zero),
            pause=tf.where(fails | all_tried, longest, tf.maximum(pause, 0)),
            longest=longest,
        )


def _work(effort: Effort, overhead: tf.Tensor) -> tf.Tensor:
    """Returns the work of a step, in gradients of the batch."""
    # With the product of the last step.
    products = 1 + tf.cast(effort.directions, tf.float32)
    one = _SOLVE_WORK + _PRODUCT_WORK / tf.cast(effort.share, tf.float32)
    return _FIXED_WORK + products * one + overhead * (1 + _PRODUCT_OVERHEAD * products)
