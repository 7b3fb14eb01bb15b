"""Tables as files and in Markdown."""

from __future__ import annotations

import pathlib

import numpy as np

from helpers import tables


def test_a_table_starts_with_what_made_it(tmp_path: pathlib.Path):
    path = tmp_path / "table.csv"
    tables.write_csv(path, ["k", "seconds"], [(4, 0.5), (24, 2.5)], "numpy 2")
    assert path.read_text().splitlines() == ["# numpy 2", "k,seconds", "4,0.5", "24,2.5"]
    assert np.loadtxt(path, delimiter=",", skiprows=2)[1, 1] == 2.5


def test_a_table_may_be_without_it(tmp_path: pathlib.Path):
    tables.write_csv(tmp_path / "table.csv", ["k"], [(4,)])
    assert (tmp_path / "table.csv").read_text().splitlines() == ["k", "4"]


def test_a_table_in_markdown():
    lines = tables.markdown(["k", "seconds"], [(4, 0.123456), ("all", None)]).splitlines()
    assert lines == ["| k | seconds |", "| --- | --- |", "| 4 | 0.1235 |", "| all |  |"]
