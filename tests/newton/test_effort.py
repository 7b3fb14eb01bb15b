import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.newton import effort as effort_lib

LEVELS = [effort_lib.Level(*level) for level in ((1, 16), (2, 4), (4, 1), (8, 1))]
CHEAP = tf.constant(0.0)


@functools.cache
def ladder_of(start):
    """The ladder with one trace of what follows a step."""
    ladder = effort_lib.Ladder(LEVELS, start)
    return ladder, tf.function(ladder.following)


class Run:
    """A training whose loss falls by a factor a unit of work that depends on the level."""

    def __init__(self, rates, start=0, overhead=0.0, noise=0.0):
        self.ladder, self.following = ladder_of(start)
        self.rates = rates
        self.vector = tf.constant(effort_lib.INITIAL)
        self.loss = 1.0
        self.levels = []
        self.overhead = overhead
        self.noise = noise
        self.random = np.random.default_rng(0)

    def work(self, level):
        directions, share = LEVELS[level]
        products = 1 + directions
        return 1.5 + products * (0.15 + 2 / share) + self.overhead * (1 + 0.15 * products)

    def steps(self, count):
        for _ in range(count):
            level = int(self.ladder.chosen(self.vector))
            self.levels.append(level)
            before = self.loss * np.exp(self.noise * self.random.normal())
            after = before * np.exp(-self.rates[level] * self.work(level))
            self.vector = self.following(
                self.vector, tf.constant(before), tf.constant(after), tf.constant(self.overhead)
            )
            self.loss *= np.exp(-self.rates[level] * self.work(level))
        return self


@pytest.mark.parametrize("best", range(4))
@pytest.mark.parametrize("start", [0, 2])
def test_the_best_level_is_found_and_kept(best, start):
    rates = [0.001 / 2 ** abs(level - best) for level in range(4)]
    run = Run(rates, start).steps(600)
    assert run.levels[0] == start
    assert np.mean(np.array(run.levels[300:]) == best) > 0.7


def test_another_level_is_found_where_the_task_changes():
    run = Run([0.002, 0.001, 0.0005, 0.0002]).steps(300)
    run.rates = [1e-6, 1e-5, 1e-4, 1e-3]
    run.steps(900)
    assert np.mean(np.array(run.levels[-200:]) == 3) > 0.7


def test_trials_become_rare_where_they_fail():
    run = Run([0.002, 0.0005, 0.0004, 0.0003]).steps(1500)
    tried = np.array(run.levels) != 0
    assert tried[:150].mean() > 0.15
    assert tried[-500:].mean() < 0.06


def test_a_trial_that_is_far_behind_ends_early():
    run = Run([0.002, 1e-5, 1e-5, 1e-5]).steps(36)
    assert run.levels.count(1) == 6


def test_what_a_step_takes_beside_arithmetic_makes_directions_cheap():
    # The loss falls five times as fast in a step with eight directions as in one with one.
    for overhead, best in ((0.0, 0), (1000.0, 3)):
        run = Run([0.0] * 4, overhead=overhead)
        run.rates = [0.001 * 1.7**level / run.work(level) for level in range(4)]
        run.steps(600)
        assert np.mean(np.array(run.levels[300:]) == best) > 0.7


def test_nothing_is_tried_where_batches_differ():
    run = Run([1e-4, 1.0, 1.0, 1.0], noise=0.1).steps(300)
    assert set(run.levels) == {0}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_says_nothing(bad):
    run = Run([1e-3] * 4).steps(15)
    after = run.following(run.vector, tf.constant(bad), tf.constant(1.0), CHEAP)
    np.testing.assert_array_equal(after, run.vector)
    after = run.following(run.vector, tf.constant(1.0), tf.constant(bad), CHEAP)
    np.testing.assert_array_equal(after, run.vector)


def test_reductions_below_the_rounding_of_single_precision_count():
    ladder = effort_lib.Ladder(LEVELS)
    vector, loss = tf.constant(effort_lib.INITIAL), tf.constant(1.0, tf.float64)
    for _ in range(6):
        vector = ladder.following(vector, loss, loss * (1 - 1e-10), CHEAP)
    assert float(effort_lib.State(*vector.numpy()).reduction) == pytest.approx(3e-10, rel=1e-3)


def test_one_level_is_not_searched():
    ladder = effort_lib.Ladder([effort_lib.Level(3, 4)])
    vector = tf.constant(effort_lib.INITIAL)
    assert ladder.following(vector, tf.constant(1.0), tf.constant(0.5), CHEAP) is vector
    assert [int(number) for number in ladder.effort(vector)] == [3, 4]
    assert ladder.most_directions == 3


def test_levels_that_a_ladder_lacks_are_the_last_one():
    # State of another ladder, from before.
    ladder = effort_lib.Ladder(LEVELS[:2])
    vector = tf.constant(effort_lib.State(*effort_lib.INITIAL)._replace(level=3.0))
    assert int(ladder.chosen(vector)) == 1
