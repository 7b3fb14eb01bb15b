"""Tests for examples/benchmarks/common/adding_data.py."""

import numpy as np
import pytest

from benchmarks.common import adding_data


@pytest.mark.parametrize("length", [2, 7, 50])
def test_targets_of_the_adding_problem_are_sums_of_the_marked_numbers(length):
    inputs, sums = adding_data.sequences(length, 300, seed=5)
    numbers, marks = inputs[..., 0], inputs[..., 1]
    np.testing.assert_allclose(sums[:, 0], (numbers * marks).sum(axis=1), rtol=1e-6)
    half = length // 2
    np.testing.assert_array_equal(marks[:, :half].sum(axis=1), np.ones(300))
    np.testing.assert_array_equal(marks[:, half:].sum(axis=1), np.ones(300))
    assert set(np.unique(marks)) <= {0, 1}
    # Every place is marked in turn, not one alone.
    assert (marks.sum(axis=0) > 0).all()
