"""The benchmark as a user runs it, in short form."""

import pathlib
import re

import pytest
import scripts
import time_to_loss_results

SCRIPT = pathlib.Path(__file__).parent.parent / "examples" / "benchmarks" / "time_to_loss.py"


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_the_quick_form_compares_all_and_goes_on_where_it_was(tmp_path, capsys):
    flags = ["--quick", "--task=poisson", "--seconds=0.2", f"--output_dir={tmp_path}"]
    flags += ["--adam_jit=false", "--lbfgs_jit=false", "--lbfgs_memory=10"]
    flags += ["--adam_rates=1e-3,1e-2", "--newton=jit_compile=False"]
    first = scripts.run(SCRIPT, *flags, "--seeds=1", "--methods=adam").stdout
    assert "best of 2 settings of adam: rate" in first
    assert "No rate beyond it was tried. Widen --adam_rates." in first
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")

    setup = (tmp_path / "runs.csv").read_text().splitlines()[1][2:]
    assert setup == "poisson, 100 rows, 105 parameters, 0.2 s a run"

    def runs():
        return time_to_loss_results.Results(tmp_path / "runs.csv", setup, "", True).runs

    before = runs()
    assert len(before) == 2
    scripts.call(SCRIPT, *flags, "--seeds=2", "--resume")
    again = capsys.readouterr().out
    assert runs()[:2] == before
    assert sorted((each.method, each.seed) for each in runs()[2:]) == [
        ("adam", 1),
        *((method, seed) for method in ("lbfgs", "newton", "sgd") for seed in (0, 1)),
    ]
    table = [line.split(" | ") for line in again.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in table[1:]] == ["newton", "adam", "sgd", "lbfgs"]
    assert table[0][2] == "relative L2 error of u at the end (range)"
    assert table[2][4:6] == ["0.2", "1.00"]
    assert {row[-1].strip("| ") for row in table[1:]} == {"2"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--methods=adam,hessian"],
            r"--methods=hessian is unknown\. Use newton, adam, sgd",
        ),
        (["--methods=newton"], r"--methods must have adam, against which"),
        (["--newton=krylov_dimension=0"], r"--newton=krylov_dimension=0 is refused: "),
        (["--adam_rates=fast"], r"--adam_rates=fast must be positive numbers"),
        (["--hidden=3,x"], r"--hidden=3,x must be integers >= 1"),
        (["--task=fashion_autoencoder", "--data_dir=nowhere"], r"Run again with --download"),
        (["extra"], r"Unknown arguments: \['extra'\]"),
    ],
)
def test_what_cannot_be_run_says_so_in_one_line(flags, message, tmp_path):
    line = scripts.refusal(SCRIPT, *flags, f"--output_dir={tmp_path}")
    assert re.search(message, line)
