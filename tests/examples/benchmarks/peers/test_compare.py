"""The comparison with peers as a user runs it."""

import csv

import pytest

from tests import scripts

EXAMPLE = scripts.EXAMPLES / "benchmarks/peers/compare.py"


@pytest.mark.slow
def test_quick_form_runs_ours_alone(tmp_path):
    printed = scripts.run(EXAMPLE, "--quick", f"--output_dir={tmp_path}").stdout
    with open(tmp_path / "peers.csv") as file:
        assert next(file).startswith("# batch 16, Python")
        (row,) = csv.DictReader(file)
    assert (row["peer"], row["parameters"], row["products"]) == ("keras_sfn", "2276", "4")
    assert float(row["orthogonality"]) < 1e-4
    assert "keras_sfn 0." in row["versions"]
    assert "lost orthogonality" not in printed
    assert (tmp_path / "peers.md").read_text() in printed
    assert (tmp_path / "peers.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--environments=nowhere",
            "There is no environment of jax in nowhere. Make it: python exam",
        ),
        ("--krylov_dimensions=a", "--krylov_dimensions=a must be integers >= 2, as 16,64."),
        ("64", "Unknown arguments: ['64']. Every setting is a --flag."),
    ],
)
def test_errors_are_one_line(argument, message):
    assert scripts.refusal(EXAMPLE, argument).startswith(message)
