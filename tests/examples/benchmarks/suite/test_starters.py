"""Tests for examples/benchmarks/suite/starters.py and train_one.py."""

import json

import pytest

from benchmarks.common import measure
from benchmarks.suite import contestants, starters
from benchmarks.suite import entry as entry_lib
from benchmarks.time_to_loss import training_runs
from tests import scripts

SCRIPT = scripts.EXAMPLES / "benchmarks/suite/train_one.py"
ADAM = contestants.Contestant("adam", "rate=0.003,batch_size=16")
RUN = training_runs.Run(*ADAM, 3, "true", 0.5, [training_runs.Record(0.0, 0, 0.0, 1.0, 1.0)])


@pytest.fixture
def processes(monkeypatch):
    """Processes that only say what they were asked, and what they answer."""
    asked, answers = [], []

    def run_program(script, flags, patience):
        assert script == SCRIPT
        asked.append(dict(flag.removeprefix("--").split("=", 1) for flag in flags if "=" in flag))
        asked[-1]["patience"] = patience
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return f"progress\n{json.dumps(answer)}\n"

    monkeypatch.setattr(measure, "run_program", run_program)
    form = entry_lib.Form(images="fashion_mnist", data_dir="there")
    return starters.Processes("heat", form, training_runs.Budget(2.0, 4)), asked, answers


def test_a_process_is_told_all_and_its_run_comes_back(processes):
    starter, asked, answers = processes
    answers.append(RUN)
    assert starter.train(ADAM, 3, xla=True) == RUN
    settings = {"task": "heat", "images": "fashion_mnist", "data_dir": "there"}
    settings |= {"seconds": "2.0", "points": "4", "method": "adam", "settings": ADAM.settings}
    assert asked == [settings | {"seed": "3", "xla": "True", "patience": 620.0}]


def test_what_xla_does_not_compile_is_not_faster(processes, capsys):
    starter, _, answers = processes
    answers += [True, measure.ProgramError("no kernel")]
    assert starter.xla_is_faster(ADAM) is True
    assert starter.xla_is_faster(ADAM) is False
    assert "is not compiled by XLA: no kernel" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("newton", "krylov_dimension=2,jit_compile=False,batch_size=40"),
        ("adam", "rate=0.003,batch_size=16"),
        # The import of TensorFlow Probability takes seconds.
        pytest.param("lbfgs", "memory=5", marks=pytest.mark.slow),
    ],
)
def test_one_training_is_printed(method, settings, capsys):
    flags = ["--quick", "--task=regression", "--seconds=0.1", "--points=2", "--seed=3"]
    scripts.call(SCRIPT, *flags, f"--method={method}", f"--settings={settings}")
    run = starters.read_run(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert run[:3] == (method, settings, 3)
    assert run.records[-1].loss < run.records[0].loss
    assert run.records[-1].seconds >= 0.1
    assert bool(run.kind) is (method == "newton")
    assert run.xla == "false"


@pytest.mark.slow
def test_a_process_of_its_own_trains():
    form = entry_lib.Form()
    starter = starters.Processes("softmax_mlp", form, training_runs.Budget(0.2, 2))
    run = starter.train(ADAM, 0, xla=False)
    assert run.records[-1].loss < run.records[0].loss
    with pytest.raises(measure.ProgramError, match=r"train_one.py .* failed \(1\): "):
        starter.train(contestants.Contestant("adam", "rate=-1,batch_size=16"), 0, xla=False)
