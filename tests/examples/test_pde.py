"""The solver of differential equations as a user runs it, in short form."""

import csv
import re

import numpy as np
import pytest

from tests import scripts

EXAMPLE = scripts.EXAMPLES / "pde.py"


def read(path):
    with open(path) as file:
        assert file.readline().startswith("# seed 0")
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_quick_form_with_a_chain_and_the_published_table(tmp_path, capsys):
    runs = ["saddle_free_newton", "adam+lbfgs"]
    scripts.call(
        EXAMPLE,
        "--quick",
        "--equation=convection",
        f"--optimizer={','.join(runs)}",
        f"--output_dir={tmp_path}",
    )
    for name in ("solution.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    history = {}
    for row in read(tmp_path / "history.csv"):
        history.setdefault(row["run"], []).append(row)
    assert list(history) == runs
    for rows in history.values():
        losses = [float(row["loss"]) for row in rows]
        assert losses[-1] < losses[0]
        assert float(rows[-1]["relative_error"]) > float(rows[-1]["rms_error"]) > 0
        steps = [int(row["steps"]) for row in rows]
        assert steps == sorted(set(steps))
    methods = [row["method"] for row in history["adam+lbfgs"]]
    assert list(dict.fromkeys(methods)) == ["adam", "lbfgs"]
    assert methods == sorted(methods)
    assert (tmp_path / "adam.weights.h5").exists()
    comparison = (tmp_path / "comparison.md").read_text()
    assert re.search(r"this run, adam\+lbfgs \|.* Rathore", comparison, re.DOTALL)
    assert "0.0019" in comparison
    assert comparison.strip() in capsys.readouterr().out


@pytest.mark.slow
def test_hard_conditions_and_new_points_by_the_exact_method(tmp_path):
    points = tmp_path / "points.csv"
    np.savetxt(points, np.random.default_rng(0).uniform(size=(30, 2)), delimiter=",")
    scripts.call(
        EXAMPLE,
        "--quick",
        "--optimizer=exact_saddle_free_newton",
        "--conditions=hard",
        "--resample_every=1",
        "--weights=interior=2",
        f"--points_file={points}",
        f"--output_dir={tmp_path}",
    )
    losses = [float(row["loss"]) for row in read(tmp_path / "history.csv")]
    assert losses[-1] < losses[0]
    assert not (tmp_path / "comparison.md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--equation=laplace"], r"flag --equation=laplace: value should be one of <poisson\|heat"),
        (["--optimizer=adam+newton"], r"unknown method: newton. Choose from saddle_free_newton"),
        (["--optimizer="], r"--optimizer= is empty"),
        (["--optimizer=lbfgs", "--resample_every=5"], r"needs fixed points"),
        (["--optimizer=adam+lbfgs", "--seconds=10"], r"no time left for lbfgs: 10 s before it"),
        (["--weights=interior"], r"--weights=interior must be NAME=NUMBER"),
        (["--weights=interior=0"], r"`weights` must be finite and above zero. .*interior=0.0"),
        (["--weights=edge=1"], r"must be of terms of the loss: interior, boundary"),
        (["--points=boundary=0"], r"--points=boundary=0 must be an integer >= 1"),
        (["--points=edge=9"], r"terms interior, boundary of poisson"),
        (["--hidden=0"], r"--hidden=0 must be integers >= 1"),
        (["--points_file=absent.csv"], r"--points_file=absent.csv cannot be read"),
        (["--published_dir=."], r"--published_dir=.: There must be files NAME_best_history.csv"),
        (["extra"], r"Unknown arguments: \['extra'\]"),
    ],
)
def test_what_cannot_be_run_says_so_in_one_line(tmp_path, arguments, message):
    assert re.search(message, scripts.refusal(EXAMPLE, f"--output_dir={tmp_path}", *arguments))


@pytest.mark.parametrize(
    ("row", "message"),
    [("0.5,nan", "`interior` of poisson must be finite"), ("0.5,2", "must lie in the domain")],
)
def test_points_of_a_file_that_are_wrong_are_named(tmp_path, row, message):
    points = tmp_path / "points.csv"
    points.write_text(f"0.5,0.5\n{row}\n")
    arguments = [f"--points_file={points}", f"--output_dir={tmp_path}"]
    line = scripts.refusal(EXAMPLE, *arguments)
    assert re.search(message, line)
    assert "row 1 is" in line
