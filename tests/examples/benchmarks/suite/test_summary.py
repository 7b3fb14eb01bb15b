"""Tests for examples/benchmarks/suite/summary.py."""

import math

import pytest

from benchmarks.suite import summary
from tests.examples.benchmarks.suite import invented


def test_ours_stands_against_the_best_rival():
    (line,) = summary.summarise(invented.SETUP, invented.groups())
    assert line.ours == summary.Side("newton (defaults)", 1e-4, pytest.approx(1e-5), 6, 40, 2)
    assert line.rival.who == "adam (rate=0.003,batch_size=100)"
    assert line.over_rival == pytest.approx(0.01)
    # Four of eight seconds; and ten of ten.
    assert line.time == pytest.approx(0.5)
    assert line.whole_time == pytest.approx(1.0)
    assert (line.step_kind, line.stuck, line.losses) == ("preconditioned", 0, (1e-4, 1e-4))


def test_what_never_gets_there_says_so():
    slow = {invented.OURS: [invented.run(invented.OURS, [1.0, 0.9, 0.8, 0.7, 0.6])]}
    (line,) = summary.summarise(invented.SETUP, invented.groups() | slow)
    assert line.time == line.whole_time == math.inf
    assert line.stuck == 0


def test_without_a_rival_there_is_no_line():
    ours = {invented.OURS: invented.groups()[invented.OURS]}
    assert summary.summarise(invented.SETUP, ours) == []


@pytest.mark.parametrize(
    ("losses", "stuck"),
    [
        ([1.0, 0.5, 0.2, 0.2, 0.2], True),
        ([1.0, 0.5, 0.2, 0.3, 0.199], True),
        ([1.0, 0.5, 0.2, 0.3, 0.19], False),
        # It is where it should be.
        ([1.0, 0.05, 0.05, 0.05, 0.05], False),
        ([1.0, 0.5, 0.2, math.nan, math.nan], True),
        ([1.0, 1.1], True),
    ],
)
def test_stuck_is_what_does_not_move_above_the_target(losses, stuck):
    assert summary.is_stuck(invented.run(invented.OURS, losses), target=0.1) is stuck
