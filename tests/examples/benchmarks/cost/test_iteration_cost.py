"""The benchmark of one Lanczos iteration in short form."""

import csv

import pytest

from benchmarks.common import deep_autoencoder
from tests import scripts

SCRIPT = scripts.EXAMPLES / "benchmarks/cost/iteration_cost.py"


def read(path):
    with open(path) as file:
        assert file.readline().startswith("# Python")
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_short_form_writes_a_row_a_case(tmp_path, capsys):
    # XLA compiles the same functions in test_iteration_programs.py.
    scripts.call(SCRIPT, "--quick", "--nojit_compile", f"--output_dir={tmp_path}")
    rows = read(tmp_path / "iteration_cost.csv")
    n = deep_autoencoder.parameters((12, 8, 4))
    assert [row["swept"] for row in rows] == ["default", "parameters", "rows", "krylov_dimension"]
    assert [int(row["parameters"]) for row in rows] == [n, 755, n, n]
    assert [int(row["rows"]) for row in rows] == [16, 16, 8, 16]
    assert [int(row["krylov_dimension"]) for row in rows] == [4, 4, 4, 6]
    assert all(float(row["gradient_seconds"]) > 0 for row in rows)
    assert "| default | 288 | 16 | 4 |" in capsys.readouterr().out
    assert (tmp_path / "iteration_cost.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_one_case_alone_as_a_user_runs_it(tmp_path):
    flags = ["--widths=12,8,4", "--rows=16", "--krylov_dimension=3", "--short=2", "--repeats=1"]
    flags += ["--sweep_parameters=", "--sweep_rows=", "--sweep_krylov="]
    output = scripts.run(SCRIPT, *flags, f"--output_dir={tmp_path}").stdout
    (row,) = read(tmp_path / "iteration_cost.csv")
    assert (row["swept"], row["krylov_dimension"]) == ("default", "3")
    assert "| default | 288 | 16 | 3 |" in output
    assert (tmp_path / "iteration_cost.png").read_bytes().startswith(b"\x89PNG")


def test_what_does_not_fit_is_left_out_with_the_reason(tmp_path, capsys):
    none = ["--sweep_parameters=", "--sweep_rows=", "--sweep_krylov="]
    line = scripts.refusal(SCRIPT, "--rows=100000000000", *none, f"--output_dir={tmp_path}")
    assert line.startswith("No case fits into memory.")
    output = capsys.readouterr().out
    assert "Left out: Case(swept='default'" in output
    assert "bytes are more than half of the machine's" in output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--widths=12", "--widths=12 must be integers >= 1, at least 2 of them"),
        ("--sweep_krylov=8,4", "--sweep_krylov=8,4 must be more than the --short=4 iterations."),
        ("--memory --memory_krylov=auto,-1", "--memory_krylov=-1 must be integers >= 1"),
        ("--memory --memory_krylov=", "--memory_krylov= must be integers >= 1, at least 1 of them"),
        ("--newton=x=1", "`x` is not an argument of this optimizer"),
    ],
)
def test_wrong_flags_end_with_a_line(flags, message):
    assert message in scripts.refusal(SCRIPT, *flags.split())


@pytest.mark.slow
def test_memory_in_short_form(tmp_path, capsys):
    flags = ["--quick", "--memory", "--newton=jit_compile=False"]
    scripts.call(SCRIPT, *flags, f"--output_dir={tmp_path}")
    printed = capsys.readouterr().out
    rows = read(tmp_path / "memory.csv")
    assert len(rows) == 2
    for row, dimension, in_basis in zip(rows, ("auto", "3"), (2, 4), strict=True):
        assert (row["krylov_dimension"], row["basis_rows"]) == (dimension, str(in_basis))
        assert abs(int(row["parameters"]) - 4000) < 400
        assert float(row["vectors"]) - float(row["beyond_basis"]) == pytest.approx(in_basis)
        assert f"| {row['parameters']} | {dimension} | {in_basis} |" in printed
