"""What is said of programs that were run on a device."""

import numpy as np
import pytest

from benchmarks.gpu import exported_report

RATES = exported_report.Rates(flops=100.0, bytes=10.0)


def ran(kind, k, seconds, flops, bytes_):
    about = {"program": kind, "krylov_dimension": k, "flops": flops, "bytes": bytes_}
    return exported_report.Run(about, 1.5, seconds, 1e-6)


def test_a_difference_is_relative_to_the_expected():
    assert exported_report.difference([3.0, 4.0], [3.0, 4.5]) == pytest.approx(0.1)
    assert exported_report.difference(np.zeros(2), [0.0, 0.5]) == 0.5
    assert exported_report.difference(np.int64(3), np.int64(3)) == 0


def test_what_is_not_finite_or_of_another_shape_differs():
    nan = float("nan")
    assert exported_report.difference([1.0, nan], [1.0, nan]) == 0
    assert exported_report.difference([1.0, 2.0], [1.0, nan]) == np.inf
    assert exported_report.difference([1.0, nan], [1.0, 2.0]) == np.inf
    assert exported_report.difference([np.inf, 1.0], [np.inf, 1.0]) == 0
    assert exported_report.difference([np.inf], [1.0]) == np.inf
    assert exported_report.difference([np.inf], [-np.inf]) == np.inf
    assert exported_report.difference([1.0], [1.0, 1.0]) == np.inf


def test_of_a_long_output_some_numbers_are_kept():
    short, long = np.arange(100 * 100).reshape(100, 100), np.arange(100 * 101).reshape(100, 101)
    assert exported_report.thinned(short) is short
    kept = exported_report.thinned(long)
    assert kept[:3].tolist() == [0, 17, 34]
    # All columns are among them.
    assert set(kept % 101) == set(range(101))


def test_kernels_are_in_the_row_of_their_program():
    run = ran("loss", None, 0.5, 1.0, 1.0)
    busy = run._replace(kernels=exported_report.Kernels(12.5, 0.25))
    other = ran("gradient", None, 0.5, 1.0, 1.0)
    without, with_ = exported_report.rows({"a": other, "b": busy}, RATES)
    assert (without.kernels, without.busy_milliseconds) == (None, None)
    assert (with_.kernels, with_.busy_milliseconds) == (12.5, 250)


def test_the_floor_is_the_longer_of_arithmetic_and_traffic():
    runs = {"a": ran("gradient", None, 0.5, 20.0, 1.0), "b": ran("loss", None, 0.5, 20.0, 4.0)}
    a, b = exported_report.rows(runs, RATES)
    assert (a.name, a.compile_seconds, a.milliseconds, a.difference) == ("a", 1.5, 500, 1e-6)
    assert (a.floor_milliseconds, a.times_floor) == pytest.approx((200, 2.5))
    assert (b.floor_milliseconds, b.times_floor) == pytest.approx((400, 1.25))


def test_an_iteration_is_the_difference_of_the_longest_and_the_shortest_loop():
    runs = {
        "x_k24": ran("lanczos", 24, 5.0, 250.0, 2.0),
        "x_k11": ran("lanczos", 11, 9.0, 1.0, 1.0),
        "x_k4": ran("lanczos", 4, 1.0, 50.0, 1.0),
        "eigh_k4": ran("eigh", 4, 1.0, None, None),
        "eigh_k24": ran("eigh", 24, 1.0, None, None),
        "step": ran("step", 11, 7.0, 10.0, 10.0),
    }
    *rows, last = exported_report.rows(runs, RATES)
    assert [row.name for row in rows] == list(runs)
    assert rows[3][1:] == (1.5, 1000.0, None, None, 1e-6, None, None)
    assert last.name == "lanczos, an iteration (4 to 24)"
    assert last.milliseconds == pytest.approx(200)
    assert (last.floor_milliseconds, last.times_floor) == pytest.approx((100, 2))
    assert (last.compile_seconds, last.difference) == (None, None)
