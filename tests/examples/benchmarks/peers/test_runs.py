"""Tests for runs.py and results.py of the benchmarks; programs stand for peers."""

from __future__ import annotations

import csv
import pathlib
import sys

import pytest

from benchmarks.peers import environments, protocol, results, runs

# Says what it was given, as a peer does; sees no packages.
FAKE = """
import json, sys
print("peers print what they like")
asked = dict(argument.strip("-").split("=") for argument in sys.argv[1:] if "=" in argument)
report = {"versions": "fake 1", "first_seconds": 9.0, "seconds": [1.0, 3.0, 2.0]}
report |= {"products": int(asked["krylov_dimension"]), "smallest": -1.0, "largest": float(LARGEST)}
print(json.dumps(report | {"orthogonality": 1e-7 if "--orthogonality" in sys.argv else None}))
"""


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Puts programs in the place of ours and of one peer; returns settings that run them."""
    python = environments.python_of(tmp_path / "environments", "fake")
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    table = {}
    for name, environment, largest in ((results.OURS, "", "4"), ("fake", "fake", "4.001")):
        program = tmp_path / f"{name}.py"
        program.write_text(FAKE.replace("LARGEST", largest))
        table[name] = runs.Peer(program, environment)
    monkeypatch.setattr(runs, "PEERS", table)
    monkeypatch.setitem(environments.ENVIRONMENTS, "fake", environments.Environment(()))
    return runs.Settings(["small"], ["fake"], [4], 4, 1, 3, tmp_path / "environments")


def read(path):
    with open(path) as file:
        next(file)
        return list(csv.DictReader(file))


def test_each_has_its_turn_and_a_row(fakes, tmp_path, capsys):
    settings = fakes._replace(krylov_dimensions=[4, 8], rounds=2)
    found = runs.compare(settings, tmp_path)
    printed = capsys.readouterr().out
    turns = [line for line in printed.splitlines() if "round" in line and "k = 4" in line]
    assert [line.split(": ")[1].split()[0] for line in turns] == ["keras_sfn", "fake"] * 2
    rows = read(tmp_path / "peers.csv")
    assert [(row["peer"], row["products"]) for row in rows] == [
        ("keras_sfn", "4"),
        ("fake", "4"),
        ("keras_sfn", "8"),
        ("fake", "8"),
    ]
    fake = rows[1]
    assert (float(fake["seconds"]), float(fake["first_seconds"])) == (2.0, 9.0)
    assert float(fake["milliseconds_per_product"]) == 500
    assert float(fake["orthogonality"]) == 1e-7
    assert float(fake["difference"]) == pytest.approx(0.001 / 4)
    assert (tmp_path / "peers.png").stat().st_size > 1000
    table = (tmp_path / "peers.md").read_text()
    assert "| small | 2,276 | 4 | fake | 4 | 2 | 500 | 1.00 | 9.0 | -1 to 4.001 |" in table
    assert "- fake: fake 1" in table
    assert [row.peer for row in found] == ["keras_sfn", "fake"] * 2


def report(**changed):
    values = {
        "versions": "1",
        "first_seconds": 5.0,
        "seconds": [1.0, 2.0],
        "products": 4,
        "smallest": -2.0,
        "largest": 1.0,
        "orthogonality": 1e-6,
    }
    return protocol.Report(**(values | changed))


def test_a_row_takes_the_median_over_rounds_and_compares_with_ours():
    found = {
        results.OURS: [report(), report(orthogonality=None)],
        "other": [report(seconds=[3.0, 3.0], largest=1.01), report(seconds=[6.0, 6.0])],
    }
    ours, other = results.rows("small", 10, 4, found)
    assert (ours.seconds, ours.least_seconds, ours.times_ours) == (1.5, 1.0, 1.0)
    assert (other.seconds, other.times_ours) == (4.5, 3.0)
    assert other.difference == pytest.approx(0.005)


def test_what_disagrees_and_what_lost_orthogonality_is_said():
    found = {
        results.OURS: [report(orthogonality=1e-2)],
        "near": [report(smallest=-2.0005)],
        "far": [report(smallest=-2.1)],
        "none": [report(largest=float("nan"))],
        "hessianlearn": [report(smallest=-1.0)],
    }
    lines = list(results.disagreements(results.rows("small", 10, 4, found)))
    assert len(lines) == 3
    assert "basis of keras_sfn has lost orthogonality, max|QQ' - I| = 1.0e-02" in lines[0]
    assert "of far differ from ours by 5.0e-02" in lines[1]
    assert "of none differ" in lines[2]


def test_a_program_that_fails_ends_the_comparison_in_a_line(fakes, tmp_path):
    (tmp_path / "fake.py").write_text("raise RuntimeError('no such op')")
    message = r"^Exit status 1 of .*fake.py.*RuntimeError: no such op$"
    with pytest.raises(environments.ProgramError, match=message):
        runs.compare(fakes, tmp_path)


@pytest.mark.parametrize("printed", ["", "print('done')", "print('[1]')", "print('{\"a\": 1}')"])
def test_a_program_without_a_report_ends_the_comparison_in_a_line(fakes, tmp_path, printed):
    (tmp_path / "fake.py").write_text(printed)
    message = r"^The last line of .*fake.py.* must be a report in JSON"
    with pytest.raises(environments.ProgramError, match=message):
        runs.compare(fakes, tmp_path)


def test_a_peer_sees_its_own_environment_alone(fakes, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    (tmp_path / "fake.py").write_text("import os; print(os.environ['PYTHONPATH'])")
    with pytest.raises(environments.ProgramError, match="KeyError: 'PYTHONPATH'"):
        runs.compare(fakes, tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"networks": ["big"]}, "--networks=big must name some of digits,paper,small"),
        ({"names": ["keras"]}, "--peers=keras must name some of fake"),
        (
            {"krylov_dimensions": [4, 1]},
            "--krylov_dimensions must be integers >= 2, as 16,64; not 1",
        ),
        (
            {"directory": pathlib.Path("nowhere")},
            "no environment of fake in nowhere. Make it: python examples/benchmarks/peers/make_env",
        ),
    ],
)
def test_wrong_settings_are_refused_in_a_line(fakes, changed, message):
    runs.check(fakes)
    with pytest.raises(ValueError, match=message):
        runs.check(fakes._replace(**changed))


def test_every_program_is_there_and_a_peer_of_a_repository_gets_its_folder(tmp_path):
    case = runs.Case("small", tmp_path / "p.npz", 10, 4)
    settings = runs.Settings([], [], [], 4, 1, 2, tmp_path)
    for name, peer in runs.PEERS.items():
        assert peer.program.exists()
        command = runs.command_of(name, case, settings, first_round=False)
        needs = bool(peer.environment) and environments.ENVIRONMENTS[peer.environment].repository
        assert any("--repository=" in argument for argument in command) == bool(needs)
        assert "--orthogonality" not in command
        assert "--orthogonality" in runs.command_of(name, case, settings, first_round=True)
