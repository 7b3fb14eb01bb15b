"""Tests for examples/benchmarks/common/measure.py."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest
from matplotlib import pyplot as plt

import keras_sfn
from benchmarks.common import measure


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


def test_a_figure_is_written_and_closed(tmp_path: pathlib.Path):
    figure, _ = plt.subplots()
    measure.save_figure(tmp_path / "figure.png", figure, "numpy 2")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert not plt.fignum_exists(figure.number)


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
