"""Tests for examples/benchmarks/suite/report.py."""

import csv

import pytest

from benchmarks.suite import contestants, report, summary
from tests.examples.benchmarks.suite import invented


def test_the_table_has_a_line_a_task():
    head, _, first, second = report.comparison(invented.lines()).splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (head, first, second)]
    table = [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]
    assert table[0]["task"] == "heat"
    assert table[0]["loss (range)"] == "0.0001 (0.0001 to 0.0001)"
    assert table[0]["over it"] == "0.01"
    assert (table[0]["of its time"], table[0]["with first step"]) == ("0.50", "1.00")
    assert table[0]["first step, s"] == "6, rival 2"
    assert table[0]["second figure"] == "relative L2 error of u: 1e-05, rival 0.001"
    assert table[0]["stuck"] == "0 of 2"
    assert table[1]["of its time"] == "not reached"
    assert (table[1]["kind of step"], table[1]["stuck"]) == ("Lanczos vectors", "1 of 1")


def test_other_settings_of_ours_are_named():
    other = contestants.Contestant("newton", "krylov_dimension=3")
    found = summary.summarise(
        invented.SETUP, invented.groups() | {other: [invented.run(other, [1.0, 0.1])]}
    )
    text = report.comparison(found)
    assert "| heat |" in text
    assert "| heat, newton (krylov_dimension=3) |" in text


def test_all_losses_are_in_one_table():
    other = contestants.Contestant("newton", "krylov_dimension=3")
    groups = invented.groups() | {other: [invented.run(other, [1.0, 0.1])]}
    table = report.all_losses({"heat": groups})
    assert table.splitlines()[0] == "| task | newton | adam | adamw | muon | lion | sgd | lbfgs |"
    assert table.splitlines()[2] == "| heat | 0.0001 | 0.01 |  |  | 0.001 |  |  |"


def test_the_file_has_a_column_a_figure(tmp_path):
    report.write_csv(tmp_path / "suite.csv", invented.lines(), "versions")
    with open(tmp_path / "suite.csv") as file:
        assert file.readline() == "# versions\n"
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == ["heat", "cnn"]
    assert [row["time"] for row in rows] == ["0.5", "inf"]
    assert rows[0]["rival_who"] == "adam (rate=0.003,batch_size=100)"
    assert float(rows[0]["ours_error"]) == pytest.approx(1e-5)
