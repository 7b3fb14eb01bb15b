"""The benchmark as a user runs it, in short form."""

import re
import types

import pytest
from absl.testing import flagsaver

from benchmarks.time_to_loss import lbfgs, plans, training_runs
from benchmarks.time_to_loss import results as results_lib
from benchmarks.time_to_loss import settings as settings_lib
from helpers import timed_training
from tests import scripts

SCRIPT = scripts.EXAMPLES / "benchmarks/time_to_loss/compare.py"


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_the_quick_form_compares_all(tmp_path, counted_time, capsys):
    counted_time(timed_training, lbfgs)
    flags = ["--quick", "--task=poisson", "--seconds=1", "--seeds=1", f"--output_dir={tmp_path}"]
    flags += ["--adam_jit=false", "--lbfgs_jit=false", "--lbfgs_memory=10"]
    flags += ["--adam_rates=1e-3,1e-2", "--newton=jit_compile=False"]
    scripts.call(SCRIPT, *flags)
    output = capsys.readouterr().out
    assert "best of 2 settings of adam: rate" in output
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    setup = (tmp_path / "runs.csv").read_text().splitlines()[1][2:]
    assert setup == "poisson, 100 rows, 105 parameters, 1 s a run"
    runs = results_lib.Results(tmp_path / "runs.csv", setup, "", True).runs
    assert sorted(each.method for each in runs) == ["adam", "adam", "lbfgs", "newton", "sgd"]
    table = [line.split(" | ") for line in output.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in table[1:]] == ["newton", "adam", "sgd", "lbfgs"]
    assert table[0][2] == "relative L2 error of u at the end (range)"
    assert table[2][4:6] == ["1", "1.00"]
    assert {row[-1].strip("| ") for row in table[1:]} == {"1"}


@pytest.mark.slow
def test_a_script_finds_its_modules_by_itself():
    ended = scripts.run(SCRIPT, "--methods=newton", check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("--methods must have adam")


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """The script, a benchmark whose trainings only say what they are, and what they said."""
    trained = []

    def train(figure, seed, label):
        trained.append((label, seed))
        records = [training_runs.Record(float(t), t, t, figure, figure) for t in range(2)]
        return records, 0.1, "false"

    with scripts.loaded(SCRIPT) as script:
        # The figure of a first-order training is its rate, and the lowest is the best.
        first_order = lambda self, method, rate, size, seed, label: train(rate, seed, label)
        monkeypatch.setattr(plans.Benchmark, "_first_order", first_order)
        other = lambda self, what, seed, label: train(1.0, seed, label)
        monkeypatch.setattr(plans.Benchmark, "_newton", other)
        monkeypatch.setattr(plans.Benchmark, "_lbfgs", other)
        # That of a run of hessianlearn is its damping.
        peer = lambda self, setting, seed, label: train(setting.damping, seed, label)
        monkeypatch.setattr(plans.Benchmark, "_hessianlearn", peer)
        settings = settings_lib.QUICK._replace(
            adam_rates=(1e-3, 1e-2, 1e-4),
            hessianlearn=settings_lib.hessianlearn_grid(["5"], ["2", "1"], None),
        )
        variants = [settings_lib.newton_variant("")]
        choices = plans.Choices(4, "auto", "auto", 10, None, tmp_path)
        task = types.SimpleNamespace(rows=100)
        yield script, plans.Benchmark(task, settings, variants, [10], choices), trained


@pytest.mark.slow
def test_the_best_settings_go_on_to_the_other_seeds_and_runs_that_are_there_do_not_run_again(
    benchmark, tmp_path, capsys
):
    script, planned, trained = benchmark

    def run(seeds, methods):
        del trained[:]
        path = tmp_path / "runs.csv"
        results = results_lib.Results(path, "setup", "", path.exists())
        with flagsaver.flagsaver(seeds=seeds):
            return script.run_all(planned, results, methods)

    run(1, ["adam"])
    rates = ["0.001", "0.01", "0.0001"]
    assert trained == [(f"adam (rate {rate}, batch 50), seed 0", 0) for rate in rates]
    printed = capsys.readouterr().out
    assert "best of 3 settings of adam: rate 0.0001, batch 50" in printed
    assert "No rate beyond it was tried. Widen --adam_rates." in printed
    groups = run(2, ["newton", "adam", "sgd", "lbfgs"])
    assert trained == [
        ("sgd (rate 0.001, batch 50), seed 0", 0),
        ("newton (defaults), seed 0", 0),
        ("lbfgs (memory 10), seed 0", 0),
        ("newton (defaults), seed 1", 1),
        ("adam (rate 0.0001, batch 50), seed 1", 1),
        ("sgd (rate 0.001, batch 50), seed 1", 1),
        ("lbfgs (memory 10), seed 1", 1),
    ]
    assert [key[0] for key in groups] == ["newton", "adam", "sgd", "lbfgs"]
    assert all([run.seed for run in runs] == [0, 1] for runs in groups.values())
    run(1, ["adam", "hessianlearn"])
    tried = [f"hessianlearn (rank 5, damping {damping}, step line_search)" for damping in (2, 1)]
    assert trained == [(f"{label}, seed 0", 0) for label in tried]
    printed = capsys.readouterr().out
    assert "best of 2 settings of hessianlearn: rank 5, damping 1, step line_search" in printed
    assert "Widen --hessianlearn" not in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--methods=adam,hessian"],
            r"--methods=hessian is unknown\. Use newton, adam, sgd",
        ),
        (["--methods=newton"], r"--methods must have adam, against which"),
        (
            ["--methods=adam,hessianlearn", "--environments=nowhere"],
            r"There is no environment of hessianlearn in nowhere\. Make it: py",
        ),
        (["--hessianlearn_steps=far"], r"--hessianlearn_steps=far must be positive numbers"),
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
