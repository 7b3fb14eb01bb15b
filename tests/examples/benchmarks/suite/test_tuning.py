"""Tests for examples/benchmarks/suite/tuning.py."""

import math

import pytest

from benchmarks.suite import tuning


def bowl(rate, size, at=(1e-1, 200)):
    return abs(math.log10(rate / at[0])) + abs(math.log2(size / at[1]))


def test_the_search_walks_to_the_best_rate_and_size():
    tried = []

    def figure(rate, size):
        tried.append((rate, size))
        return bowl(rate, size)

    rate, size = tuning.descend(figure, 1e-3, [100, 50, 200], 6)
    assert (rate, size) == (pytest.approx(1e-1), 200)
    assert tried[0] == (1e-3, 100)
    assert len(tried) == len(set(tried))
    # The neighbours of the best were tried.
    steps = {round(2 * math.log10(r / 1e-3)) for r, s in tried if s == 200}
    assert {3, 4, 5} <= steps


def test_where_all_diverges_it_goes_down():
    found = tuning.descend(lambda rate, size: math.inf if rate > 2e-4 else rate, 1e-2, [10], 6)
    assert found == (pytest.approx(1e-5), 10)


@pytest.mark.parametrize(("farthest", "rate"), [(6, 1e-3), (1, 10**-0.5), (0, 1.0)])
def test_it_leads_no_farther_than_it_may(farthest, rate):
    found = tuning.descend(lambda rate, size: 1.0, 1.0, [8], farthest)
    assert found == (pytest.approx(rate), 8)
