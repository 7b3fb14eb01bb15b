"""The benchmark of the first step in short form."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import measure
import pytest

BENCHMARKS = pathlib.Path(__file__).parent.parent / "examples" / "benchmarks"
SCRIPT = BENCHMARKS / "compile_time.py"


def run(*flags, check=True):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *flags],
        capture_output=True,
        text=True,
        check=check,
        timeout=500,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(BENCHMARKS.parent.parent), *sys.path])},
    )


@pytest.mark.slow
def test_the_short_form_writes_a_row_a_training(tmp_path):
    result = run("--quick", "--steps=2", "--newton=krylov_dimension=2", f"--output_dir={tmp_path}")
    with open(tmp_path / "compile_time.csv") as file:
        assert file.readline().startswith("# Python")
        rows = list(csv.DictReader(file))
    assert [(row["optimizer"], row["jit_compile"]) for row in rows] == [
        ("newton", "auto"),
        ("newton", "true"),
        ("newton", "false"),
        ("adam", "auto"),
        ("adam", "true"),
    ]
    # The first step holds the compilation, by far the most of it all.
    assert all(float(row["first"]) > 3 * float(row["second"]) > 0 for row in rows)
    assert all(row["later"] == "" for row in rows)
    assert "| adam | true | 288 |" in result.stdout
    assert (tmp_path / "compile_time.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("optimizer", "jit"), [("newton", "false"), ("adam", "true")])
def test_one_training_says_how_long_each_step_took(optimizer, jit):
    flags = [f"--optimizer={optimizer}", f"--jit_compile={jit}", "--steps=4"]
    output = measure.output_of(BENCHMARKS / "first_step.py", flags)
    seconds = json.loads(output.splitlines()[-1])["seconds"]
    assert len(seconds) == 4
    assert seconds[0] > max(seconds[1:])


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--newton=damping=-1", "--newton=damping=-1 must be arguments such as"),
        ("--steps=1", "flag --steps=1: 1 is not"),
    ],
)
def test_wrong_flags_end_with_a_line(flag, message):
    result = run(flag, check=False)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
