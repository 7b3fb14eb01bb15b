"""Lengths along averaged directions: what looks and losses make of them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.newton import lengths


def start(**values):
    state = lengths.State(*(tf.constant(value) for value in lengths.INITIAL))
    return state._replace(**{name: tf.constant(value) for name, value in values.items()})


def look(slope, curvature, loss=1.0, trial_loss=None, length=0.0):
    if trial_loss is None:
        trial_loss = loss - length * slope + length**2 * curvature / 2
    numbers = (slope, curvature, 1.0, loss, trial_loss)
    return lengths.Look(*(tf.constant(number, tf.float32) for number in numbers))


def test_there_is_a_look_at_each_of_the_first_steps_and_fewer_later():
    due = [bool(lengths.is_due(start(steps=float(step)))) for step in range(200)]
    assert all(due[:10])
    assert sum(due[10:100]) == 18
    assert sum(due[100:]) == 10


@pytest.mark.parametrize("curvature", [4.0, -4.0])
def test_the_length_is_slope_over_absolute_curvature(curvature):
    state = start(steps=50.0, slope=2.0, slope_square=4.0, curvature=4.0, length=0.5)
    state = lengths.looked(state, look(2.0, curvature, length=0.5))
    assert float(state.length) == pytest.approx(lengths.REACH * 0.5, rel=1e-5)
    assert float(state.rayleigh) == curvature


def test_the_first_length_is_a_part():
    state = lengths.sloped(start(), tf.constant(2.0))
    state = lengths.looked(state, look(2.0, 4.0))
    assert float(state.length) == pytest.approx(0.05, rel=1e-5)


def test_changes_have_bounds():
    state = start(steps=50.0, slope=100.0, slope_square=1e4, curvature=1.0, length=0.01)
    grown = lengths.looked(state, look(100.0, 1.0, length=0.01))
    assert float(grown.length) == pytest.approx(0.01 * lengths.GROWTH, rel=1e-5)
    state = start(steps=50.0, slope=0.0, curvature=1.0, length=0.01)
    fallen = lengths.looked(state, look(0.0, 1.0, length=0.01))
    assert float(fallen.length) == pytest.approx(0.01 * lengths.SHRINKAGE, rel=1e-5)


def test_a_loss_that_bends_more_than_the_product_says_counts():
    state = start(steps=50.0, slope=1.0, slope_square=1.0, curvature=1.0, length=1.0)
    seen = lengths.looked(state, look(1.0, 1.0, loss=1.0, trial_loss=3.0, length=1.0))
    kept = lengths.FADING
    assert float(seen.curvature) == pytest.approx(kept * 1.0 + (1 - kept) * 6.0, rel=1e-5)


def test_noise_allows_a_length_where_the_slope_is_hidden():
    state = start(steps=50.0, slope=-1e-9, curvature=2.0, length=1e-3, deviation=0.01)
    for _ in range(20):
        state = lengths.looked(state, look(0.0, 2.0, length=float(state.length)))
    expected = np.sqrt(2 * lengths.ALLOWED * 0.01 / 2.0)
    assert float(state.length) == pytest.approx(expected, rel=1e-3)


def test_a_trial_that_is_not_finite_only_shortens():
    state = start(steps=50.0, slope=1.0, curvature=1.0, length=1.0)
    seen = lengths.looked(state, look(1.0, 1.0, trial_loss=float("inf"), length=1.0))
    assert float(seen.length) == lengths.SHRINKAGE
    assert float(seen.curvature) == 1.0


def test_a_slope_that_is_not_finite_is_left_out():
    state = start(steps=50.0, slope=1.0, slope_square=2.0)
    assert float(lengths.sloped(state, tf.constant(float("nan"))).slope) == 1.0


def test_what_runs_away():
    state = start(steps=50.0, loss=1.0, deviation=0.01)
    for loss, away in ((1.1, False), (2.0, True), (float("nan"), True), (-3.0, False)):
        assert bool(lengths.ran_away(state, tf.constant(loss))) is away


def test_after_a_runaway_lengths_are_shorter_and_the_bound_wider():
    state = start(steps=50.0, loss=1.0, deviation=0.01, length=1.0, curvature=1.0)
    back = lengths.stepped(state, tf.constant(9.0), tf.constant(True))
    assert float(back.length) == 0.5
    assert float(back.deviation) > 0.1
    assert float(back.loss) == 1.0
