"""Tests for examples/benchmarks/peer_grid.py, on a program that stands for the peer's training."""

from __future__ import annotations

import csv
import math
import sys

import environments
import peer_grid
import peer_protocol
import pytest

# A loss that depends on the setting and the seed; one setting diverges.
FAKE = """
import json, sys
print("peers print what they like")
asked = dict(argument.strip("-").split("=") for argument in sys.argv[1:])
print(json.dumps({"versions": "fake 1", "budget": float(asked["budget"])}))
print(json.dumps({"seconds": 0.0, "steps": 0, "gradients": 0.0, "loss": 1.0}))
print(json.dumps({"first_step_seconds": 0.5}))
loss = float(asked["damping"]) * (1 + int(asked["seed"])) / int(asked["rank"])
loss = float("nan") if asked["globalization"] == "line_search" else loss
print(json.dumps({"seconds": 2.0, "steps": 7, "gradients": 70.0, "loss": loss}))
"""


@pytest.fixture
def grid(tmp_path, monkeypatch):
    directory = tmp_path / "environments"
    python = environments.python_of(directory, "hessianlearn")
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / "program.py").write_text(FAKE)
    monkeypatch.setattr(peer_grid, "_PROGRAM", tmp_path / "program.py")
    return peer_grid.Grid(
        hidden=[8, 2],
        rows=20,
        budget=60,
        seeds=[0, 1, 2],
        ranks=[5],
        globalizations=["fixed", "line_search"],
        steps=[0.1, 0.2],
        dampings=[1.0, 10.0],
        options=["--points=3"],
        directory=directory,
    )


def test_the_grid_takes_the_step_length_where_it_counts(grid):
    settings = list(peer_grid.settings(grid))
    assert len(settings) == len(set(settings)) == 6
    assert {setting.step for setting in settings if setting.globalization == "line_search"} == {1.0}


def test_each_setting_trains_from_each_seed(grid, tmp_path, capsys):
    peer_grid.run(grid, tmp_path, tmp_path)
    with open(tmp_path / "training.csv") as file:
        assert next(file).startswith("# fake 1, ")
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 3 * 2
    wanted = {"seconds": "2.0", "steps": "7", "gradients": "70.0", "first_step_seconds": "0.5"}
    assert rows[1] | wanted | {"versions": "fake 1"} == rows[1]
    table = (tmp_path / "training.md").read_text().splitlines()
    assert "loss after 60 s" in table[0]
    # The median over seeds, the best first, what diverged last.
    assert table[2] == "| 5 | fixed | 0.1 | 1.0 | 4.000e-01 |"
    assert table[7].endswith("| nan |")
    assert (tmp_path / "training.png").stat().st_size > 1000
    assert capsys.readouterr().out.count("4.000e-01") == 2


def test_the_problem_is_the_digits_and_the_network_of_the_examples(grid, tmp_path):
    peer_grid.write_problem(tmp_path / "problem.npz", grid, seed=3)
    problem = peer_protocol.read_problem(tmp_path / "problem.npz")
    assert problem.inputs.shape == (20, 64)
    assert problem.inputs.max() == 1
    assert [kernel.shape for kernel in problem.kernels] == [(64, 8), (8, 2), (2, 8), (8, 64)]
    assert problem.tanh == (True, False, True, False)
    assert problem.point.shape == problem.start.shape


def test_a_failure_is_an_error_of_one_line(grid, tmp_path):
    (tmp_path / "program.py").write_text("raise RuntimeError('no session')")
    message = r"^Exit status 1 of .*program.py.* --points=3; .*RuntimeError: no session$"
    with pytest.raises(environments.ProgramError, match=message):
        peer_grid.run(grid, tmp_path, tmp_path)


@pytest.mark.parametrize("values", [[], ["a"], ["1", "-1"], ["0.5"]])
def test_integers_are_asked_for(values):
    assert peer_grid.integers("ranks", ["0", "12"]) == [0, 12]
    with pytest.raises(ValueError, match=f"^--ranks={','.join(values)} must be integers >= 0"):
        peer_grid.integers("ranks", values)


@pytest.mark.parametrize("values", [[], ["a"], ["1", "0"], ["-1"], ["inf"], ["nan"]])
def test_positive_numbers_are_asked_for(values):
    assert peer_grid.numbers("steps", ["1e-3", "2"]) == [0.001, 2.0]
    with pytest.raises(ValueError, match=f"^--steps={','.join(values)} must be positive numbers"):
        peer_grid.numbers("steps", values)


def test_a_loss_that_is_no_number_comes_last():
    records = [
        peer_grid.Record(rank, "fixed", 0.1, 1.0, 0, 0.5, 2.0, 7, 70.0, loss, "1")
        for rank, loss in ((1, math.nan), (2, 2.0), (3, math.inf), (4, 1.0))
    ]
    assert [setting.rank for setting in peer_grid.last_losses(records)] == [4, 2, 3, 1]
