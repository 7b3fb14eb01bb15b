"""Tests for examples/benchmarks/measure.py."""

from __future__ import annotations

import pathlib

import measure
import numpy as np
from matplotlib import pyplot as plt


def test_functions_are_called_in_turn():
    calls: list[str] = []
    timings = measure.in_turn(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2
    )
    assert calls == ["a", "b"] * 3
    assert [len(timing.seconds) for timing in timings.values()] == [2, 2]


def test_the_first_call_is_not_in_the_median():
    assert measure.Timing(first=100.0, seconds=(1.0, 3.0, 2.0)).median == 2.0


def test_versions_name_packages_and_no_machine():
    text = measure.versions(["numpy"])
    assert f"numpy {np.__version__}" in text
    assert text.endswith("CPU cores")


def test_a_table_starts_with_what_made_it(tmp_path: pathlib.Path):
    path = tmp_path / "table.csv"
    measure.write_csv(path, ["k", "seconds"], [(4, 0.5), (24, 2.5)], "numpy 2")
    assert path.read_text().splitlines() == ["# numpy 2", "k,seconds", "4,0.5", "24,2.5"]
    assert np.loadtxt(path, delimiter=",", skiprows=2)[1, 1] == 2.5


def test_a_figure_is_written_and_closed(tmp_path: pathlib.Path):
    figure, _ = plt.subplots()
    measure.save_figure(tmp_path / "figure.png", figure, "numpy 2")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert not plt.fignum_exists(figure.number)


def test_output_directory_makes_parents(tmp_path: pathlib.Path):
    assert measure.output_directory(str(tmp_path / "a" / "b")).is_dir()
