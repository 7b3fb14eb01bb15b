import math
import types

import pytest

from helpers import pde_clock


@pytest.fixture
def clock(monkeypatch):
    """A clock for runs of ten seconds whose time the test sets; errors are loss and twice that."""
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(pde_clock, "time", types.SimpleNamespace(perf_counter=lambda: now.seconds))
    problem = types.SimpleNamespace(errors=lambda: (0.5, 1.0))

    def make(**limits):
        found = pde_clock.Clock(problem, "run", pde_clock.Limits(seconds=10, records=1, **limits))
        found.begin("method", 10)
        return found, now

    return make


def test_records_are_spread_over_the_decades_and_the_end(clock):
    run, now = clock()
    going = []
    for seconds in (0.5, 1, 2, 5.1, 9, 10.2):
        now.seconds = seconds
        going.append(run(loss=1 / seconds))
    assert going == [True] * 5 + [False]
    assert [record.seconds for record in run.records] == [0.5, 5.1, 10.2]
    assert [record.steps for record in run.records] == [1, 4, 6]
    assert run.records[-1][3:] == (1 / 10.2, 0.5, 1.0)
    run.end()
    run.finish()
    assert len(run.records) == 3


def test_steps_and_losses_that_are_not_finite_end_a_part(clock):
    run, _ = clock(steps=4)
    assert run(1.0, steps=2)
    assert not run(1.0, steps=2)
    run.begin("next", 10)
    assert run(1.0)
    assert not run(math.nan)
    assert [record.method for record in run.records] == ["method", "method", "next"]


def test_a_part_that_ends_by_itself_is_recorded(clock):
    run, now = clock()
    run(2.0)
    now.seconds = 0.2
    assert run(1.5)
    run.end()
    assert [(record.steps, record.loss) for record in run.records] == [(1, 2.0), (2, 1.5)]


def test_the_time_of_records_does_not_count(clock, monkeypatch):
    run, now = clock()

    def errors():
        now.seconds += 3
        return 0.5, 1.0

    monkeypatch.setattr(run._problem, "errors", errors)
    run(1.0)
    now.seconds += 1
    run.end()
    run(1.0)
    now.seconds += 9
    assert not run(1.0)
    assert run.records[-1].seconds == 10
