"""Tests for examples/benchmarks/measure.py."""

from __future__ import annotations

import os
import pathlib

import measure
import numpy as np
import pytest
from absl import flags
from matplotlib import pyplot as plt

import keras_sfn


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
    assert f"keras_sfn {keras_sfn.__version__}, numpy {np.__version__}, " in text
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


def test_a_directory_that_cannot_be_made_is_said_in_a_line(tmp_path: pathlib.Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"--output_dir=.*file/x cannot be made: Not a directory"):
        measure.output_directory(str(tmp_path / "file" / "x"))


def test_a_table_in_markdown():
    lines = measure.markdown(["k", "seconds"], [(4, 0.123456), ("all", None)]).splitlines()
    assert lines == ["| k | seconds |", "| --- | --- |", "| 4 | 0.1235 |", "| all |  |"]


def test_a_short_form_sets_flags():
    flags.DEFINE_integer("measured_rows", 3, "For this test.")
    flags.FLAGS.mark_as_parsed()
    measure.set_flags({"measured_rows": 5})
    assert flags.FLAGS.measured_rows == 5


def test_integers_of_a_flag():
    assert measure.positive_integers("rows", ["64", "1e4"]) == [64, 10_000]
    assert measure.positive_integers("rows", [], least=0) == []


@pytest.mark.parametrize("values", [["0"], ["x"], ["1.5"], ["inf"], ["nan"], ["-3"], []])
def test_what_is_no_integer_is_refused(values: list[str]):
    with pytest.raises(SystemExit, match=r"--rows=.* must be integers >= 1"):
        measure.positive_integers("rows", values)


def test_arguments_that_are_no_flags_are_refused():
    measure.refuse_arguments(["script"])
    with pytest.raises(SystemExit, match=r"Unknown arguments: \['more'\]"):
        measure.refuse_arguments(["script", "more"])


def test_a_script_in_a_fresh_process(tmp_path: pathlib.Path):
    script = tmp_path / "script.py"
    script.write_text("import os, sys\nprint(os.getppid(), *sys.argv[1:])\n")
    assert measure.output_of(script, ["--a=1"]) == f"{os.getpid()} --a=1\n"


def test_a_script_that_fails_says_why_in_a_line(tmp_path: pathlib.Path):
    script = tmp_path / "script.py"
    script.write_text("raise ValueError('no such thing')")
    with pytest.raises(
        SystemExit, match=r"script.py --a=1 failed \(1\): ValueError: no such thing"
    ):
        measure.output_of(script, ["--a=1"])
