"""Lengths along averaged directions: what looks and losses make of them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.newton import lengths

# Traced once: hundreds of looks take as long otherwise as compiling a network.
looked, stepped = tf.function(lengths.looked), tf.function(lengths.stepped)


def start(**values):
    state = lengths.State(*(tf.constant(value) for value in lengths.INITIAL))
    return state._replace(**{name: tf.constant(value) for name, value in values.items()})


def look(slope, curvature, loss=1.0, trial_loss=None, length=0.0, mean_loss=None):
    if trial_loss is None:
        trial_loss = loss - length * slope + length**2 * curvature / 2
    numbers = (slope, curvature, 1.0, loss, trial_loss, loss if mean_loss is None else mean_loss)
    return lengths.Look(*(tf.constant(number, tf.float32) for number in numbers))


def test_there_is_a_look_at_each_of_the_first_steps_and_fewer_later():
    due = [bool(lengths.is_due(start(steps=float(step)))) for step in range(200)]
    assert all(due[:10])
    assert sum(due[10:100]) == 18
    assert sum(due[100:]) == 10


@pytest.mark.parametrize("curvature", [4.0, -4.0])
def test_the_length_is_slope_over_absolute_curvature(curvature):
    state = start(steps=50.0, slope=2.0, slope_square=4.0, curvature=4.0, length=0.5)
    state = looked(state, look(2.0, curvature, length=0.5))
    assert float(state.length) == pytest.approx(lengths.REACH * 0.5, rel=1e-5)
    assert float(state.rayleigh) == curvature


def test_the_first_length_is_a_part():
    state = lengths.sloped(start(), tf.constant(2.0))
    state = looked(state, look(2.0, 4.0))
    assert float(state.length) == pytest.approx(0.05, rel=1e-5)


def test_changes_have_bounds():
    state = start(steps=50.0, slope=100.0, slope_square=1e4, curvature=1.0, length=0.01)
    grown = looked(state, look(100.0, 1.0, length=0.01))
    assert float(grown.length) == pytest.approx(0.01 * lengths.GROWTH, rel=1e-5)
    state = start(steps=50.0, slope=0.0, curvature=1.0, length=0.01)
    fallen = looked(state, look(0.0, 1.0, length=0.01))
    assert float(fallen.length) == pytest.approx(0.01 * lengths.SHRINKAGE, rel=1e-5)


def test_a_loss_that_bends_more_than_the_product_says_counts():
    state = start(steps=50.0, slope=1.0, slope_square=1.0, curvature=1.0, length=1.0)
    seen = looked(state, look(1.0, 1.0, loss=1.0, trial_loss=3.0, length=1.0))
    assert float(seen.curvature) == pytest.approx(6.0 ** (1 - lengths.FADING), rel=1e-5)


def test_the_mean_curvature_follows_a_fall_by_orders_of_magnitude():
    state = start(steps=50.0, curvature=1.0, length=1e-3)
    for number in range(40):
        state = looked(state, look(1.0, 0.5**number, length=float(state.length)))
    # Four looks behind, not forty.
    assert float(state.curvature) / 0.5**39 == pytest.approx(2.0**4, rel=0.01)


@pytest.mark.parametrize("curvature", [0.0, 1e30])
def test_one_look_moves_the_mean_curvature_so_far_at_most(curvature):
    state = start(steps=50.0, curvature=1.0, length=1e-3)
    seen = looked(state, look(1.0, curvature, trial_loss=0.0, length=1e-3))
    assert abs(np.log(float(seen.curvature))) == pytest.approx(0.2 * np.log(100.0), rel=1e-4)


def test_noise_allows_a_length_where_the_slope_is_hidden():
    state = start(steps=20.0, slope=-1e-9, curvature=2.0, length=1e-3, deviation=0.01)
    for _ in range(20):
        state = looked(state, look(0.0, 2.0, length=float(state.length)))
    expected = np.sqrt(2 * lengths.ALLOWED * 0.01 / 2.0)
    assert float(state.length) == pytest.approx(expected, rel=1e-3)


def test_a_trial_that_is_not_finite_only_shortens():
    state = start(steps=50.0, slope=1.0, curvature=1.0, length=1.0)
    seen = looked(state, look(1.0, 1.0, trial_loss=float("inf"), length=1.0))
    assert float(seen.length) == lengths.SHRINKAGE
    assert float(seen.curvature) == 1.0


def test_a_slope_that_is_not_finite_is_left_out():
    state = start(steps=50.0, slope=1.0, slope_square=2.0)
    assert float(lengths.sloped(state, tf.constant(float("nan"))).slope) == 1.0


def test_what_runs_away():
    state = start(steps=50.0, loss=1.0, deviation=0.01, length=0.1)
    for loss, away in ((1.1, False), (2.0, True), (float("nan"), True), (-3.0, False)):
        assert bool(lengths.ran_away(state, tf.constant(loss))) is away


def test_where_nothing_has_moved_nothing_runs_away():
    state = start(steps=1.0, loss=0.0)
    assert not bool(lengths.ran_away(state, tf.constant(2.0)))
    assert bool(lengths.ran_away(state, tf.constant(float("nan"))))


def test_after_a_runaway_lengths_are_shorter_and_the_bound_wider():
    state = start(steps=50.0, loss=1.0, deviation=0.01, length=1.0, curvature=1.0)
    back = stepped(state, tf.constant(9.0), tf.constant(True))
    assert float(back.length) == 0.5
    assert float(back.deviation) > 0.1
    assert float(back.loss) == 1.0


def test_lengths_shrink_where_one_runaway_follows_another_and_return_after_the_last():
    state = start(steps=50.0, loss=1.0, deviation=0.01, length=1.0, curvature=1e-6)
    state = state._replace(slope=tf.constant(1.0), slope_square=tf.constant(1.0))

    def walk(state, steps):
        for _ in range(steps):
            # Looks would have the length grow as fast as they can.
            if lengths.is_due(state):
                state = looked(state, look(1.0, 1e-6, length=float(state.length)))
            state = stepped(state, tf.constant(1.0), tf.constant(False))
        return state

    for number in range(1, 6):
        state = walk(stepped(state, tf.constant(99.0), tf.constant(True)), 30)
        assert float(state.length) < 0.7**number
    assert float(walk(state, 400).length) > 1.0


@pytest.mark.parametrize(
    ("loss_of", "bounds"),
    [
        (lambda step: 9.0 - np.log(step), (0.98, 1.02)),
        # A power bends between the steps that are compared.
        (lambda step: 2.0 + step**-0.5, (1.5 * 0.5 * 2000**-0.5, 1.55 * 0.5 * 2000**-0.5)),
        (lambda step: 2.0, (0.0, 1e-6)),
    ],
)
def test_the_fall_is_that_while_steps_grow_by_a_factor_of_e(loss_of, bounds):
    state = start()
    for step in range(1, 2001):
        loss = tf.constant(loss_of(float(step)), tf.float32)
        state = stepped(state, loss, tf.constant(False))
    assert bounds[0] <= float(lengths.fall(state)) <= bounds[1]


def test_the_fall_is_at_most_the_loss():
    state = start(loss=0.1, early=3.0, late=1.0)
    assert float(lengths.fall(state)) == pytest.approx(0.1)


def drive(fall, gain, looks=200, **values):
    """Returns a state whose loss falls by so much, after looks that see such a gain."""
    apart = 1 / 2 - 1 / 4
    values = {"steps": 1e4, "curvature": 2.0, "deviation": 0.01, "length": 1e-3} | values
    state = start(loss=1.0, early=1.0 + fall * apart, late=1.0, **values)
    for _ in range(looks):
        seen = look(0.0, 2.0, length=float(state.length), mean_loss=1.0 - gain)
        state = looked(state, seen)
    return state


@pytest.mark.parametrize("more", [-2.0, 0.0, 6.0])
def test_the_height_above_the_valley_has_a_part_of_the_fall(more):
    # Heights that grow with lengths: so there is a balance, and it is found from both ends.
    state = drive(0.1, 0.0, looks=1, more=more)
    for _ in range(400):
        gain = 0.5 * 0.1 * float(state.length) / 0.01
        seen = look(0.0, 2.0, length=float(state.length), mean_loss=1.0 - gain)
        state = looked(state, seen)
    assert float(state.gain) == pytest.approx(lengths.HEIGHT * 0.1, rel=0.1)


def test_lengths_have_bounds_and_come_back():
    longest = drive(0.1, -1.0)
    shortest = drive(0.0, 1.0)
    ratio = float(longest.length / shortest.length)
    assert np.exp(3) < ratio < np.exp(5)
    assert float(drive(0.1, -1.0, more=float(shortest.more)).more) == float(longest.more)
    assert float(drive(0.0, 1.0, more=float(longest.more)).more) == float(shortest.more)


def test_a_loss_at_the_mean_point_that_is_not_finite_shows_nothing():
    before = drive(0.1, 0.0)
    seen = look(0.0, 2.0, length=float(before.length), mean_loss=float("nan"))
    assert float(looked(before, seen).gain) == float(before.gain)


def test_where_a_training_ends():
    assert bool(lengths.ends_at_mean_point(start(gain=0.1, since=300.0)))
    assert not bool(lengths.ends_at_mean_point(start(gain=-0.1, since=300.0)))
    # A mean of thirty steps is many steps behind where there were few.
    assert not bool(lengths.ends_at_mean_point(start(gain=0.1, since=100.0)))
