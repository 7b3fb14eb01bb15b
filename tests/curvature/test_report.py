import keras
import numpy as np
import pytest

import keras_sfn
from keras_sfn.curvature import report as report_lib

PARTS = [slice(0, 2), slice(2, 4)]


def judge(products, differences, errors, *, tolerance=1e-3, has_free_kinks=False):
    variables = [keras.Variable(np.zeros(2), name=name) for name in ("first", "second")]
    return report_lib.judge(
        variables,
        PARTS,
        np.array([products]),
        np.array([differences]),
        np.array([errors]),
        tolerance=tolerance,
        epsilon=1e-7,
        has_free_kinks=has_free_kinks,
    )


@pytest.mark.parametrize(
    ("second", "difference", "error", "free", "verdict"),
    [
        ([3.0, 4.0], [3.0, 4.001], 1e-5, False, "right"),
        ([3.0, 4.0], [3.0, 4.1], 1e-5, False, "wrong"),
        ([3.0, 4.0], [3.0, 4.1], 1e-5, True, "not resolved"),
        ([3.0, 4.0], [3.0, 4.1], 0.05, False, "not resolved"),
        ([3e-6, 0.0], [0.0, 5e-6], 1e-5, False, "right (zero)"),
        # A part of the curvature that is silently dropped, not one that is zero.
        ([0.0, 0.0], [3.0, 4.0], 1e-5, False, "wrong"),
        ([np.nan, 0.0], [3.0, 4.0], 1e-5, False, "wrong"),
    ],
)
def test_verdicts(second, difference, error, free, verdict):
    checks = judge([1.0, 1.0, *second], [1.0, 1.0, *difference], [1e-6, error], has_free_kinks=free)
    assert checks[0].verdict == "right"
    assert checks[1].verdict == verdict


def test_relative_error_is_over_directions_and_coordinates():
    [_, check] = judge([1.0, 1.0, 3.0, 4.0], [1.0, 1.0, 3.0, 4.5], [0.0, 0.1])
    size = np.hypot(3, 4.5)
    np.testing.assert_allclose(check.relative_error, 0.5 / size)
    np.testing.assert_allclose(check.uncertainty, 0.1 / size)


def test_prints_as_a_table_and_is_true_where_all_is_right():
    right = judge([1.0, 1.0, 3.0, 4.0], [1.0, 1.0, 3.0, 4.0], [0.0, 0.0])
    report = keras_sfn.CurvatureReport(right, 1e-3, 2)
    assert report
    lines = str(report).splitlines()
    assert lines[0].split() == ["variable", "shape", "relative", "error", "verdict"]
    assert lines[2].split() == ["first", "(2,)", "0.0e+00", "right"]
    assert lines[-1] == "The curvature is right (tolerance 0.001, 2 kinks held)."
    wrong = judge([1.0, 1.0, 3.0, 4.0], [1.0, 1.0, 3.0, 5.0], [0.0, 0.0])
    report = keras_sfn.CurvatureReport(wrong, 1e-3, 0)
    assert not report
    assert repr(report).splitlines()[-1].startswith("The curvature of 1 of 2 variables is not")
