"""The benchmark of the first step in short form."""

import csv
import json

import keras
import pytest
from absl.testing import flagsaver

from benchmarks.common import measure
from benchmarks.suite import registry
from tests import scripts

SCRIPT = scripts.EXAMPLES / "benchmarks/cost/compile_time.py"
FIRST_STEP = scripts.EXAMPLES / "benchmarks/cost/first_step.py"

# Optimizer and `jit_compile`, in the order of the rows.
TRAININGS = [
    ("newton", "auto"),
    ("newton", "true"),
    ("newton", "false"),
    ("adam", "auto"),
    ("adam", "true"),
]


def read(path):
    with open(path) as file:
        assert file.readline().startswith("# Python")
        return list(csv.DictReader(file))


@pytest.fixture
def processes(monkeypatch):
    """Processes that only say what they were asked, and what each repeat of them answers."""
    asked, answers = [], []

    def output_of(script, flags):
        assert script == FIRST_STEP
        asked.append(dict(flag.removeprefix("--").split("=", 1) for flag in flags))
        answer = {"parameters": 288, "seconds": answers.pop(0)}
        return f"progress\n{json.dumps(answer)}\n"

    monkeypatch.setattr(measure, "output_of", output_of)
    return asked, answers


def test_the_trainings_take_turns_and_a_row_has_the_medians(tmp_path, processes, capsys):
    asked, answers = processes
    # Of two models: the first step, nine early ones, two later ones.
    repeats = [
        [[5.0, 0.5, *[0.25] * 8, 0.25, 0.75], [0.5] * 12],
        [[9.0, 0.75, *[0.5] * 8, 1.0, 1.0], [2.0] * 12],
        [[4.0, 0.25, *[0.25] * 8, 0.5, 0.5], [1.0] * 12],
    ]
    answers += [repeat for repeat in repeats for _ in TRAININGS]
    flags = ["--widths=12,8,4", "--rows=16", "--steps=12", "--newton=seed=1", "--repeats=3"]
    scripts.call(SCRIPT, *flags, f"--output_dir={tmp_path}")
    assert [(run["optimizer"], run["jit_compile"]) for run in asked] == TRAININGS * 3
    settings = {"widths": "12,8,4", "rows": "16", "steps": "12", "newton": "seed=1", "models": "2"}
    assert all(settings.items() <= run.items() for run in asked)
    rows = read(tmp_path / "compile_time.csv")
    assert [(row["optimizer"], row["jit_compile"]) for row in rows] == TRAININGS
    for row in rows:
        names = ("first", "longest", "second", "early", "later", "slowest_later", "second_model")
        assert [float(row[name]) for name in names] == [5, 9, 0.5, 2.5, 0.625, 1, 1]
    line = "| deep_autoencoder | adam | true | 288 | 5 | 9 | 0.5 | 2.5 | 0.625 | 1 | 1 |"
    assert line in capsys.readouterr().out
    assert (tmp_path / "compile_time.png").read_bytes().startswith(b"\x89PNG")


def test_tasks_of_the_suite_are_trained_by_both(tmp_path, processes):
    asked, answers = processes
    answers += [[[3.0, 1.0], [2.0, 1.0]]] * 4
    scripts.call(SCRIPT, "--task=heat,cnn", "--quick", f"--output_dir={tmp_path}")
    assert [(run["task"], run["optimizer"], run["quick"]) for run in asked] == [
        (task, optimizer, "True") for task in ("heat", "cnn") for optimizer in ("newton", "adam")
    ]
    rows = read(tmp_path / "compile_time.csv")
    assert [row["task"] for row in rows] == ["heat", "heat", "cnn", "cnn"]
    assert {(row["early"], row["later"], row["second_model"]) for row in rows} == {
        ("1.0", "", "2.0")
    }
    assert (tmp_path / "compile_time.png").exists()


def test_all_are_the_tasks_of_the_suite():
    with scripts.loaded(SCRIPT) as benchmark, flagsaver.flagsaver(task=["all"]):
        found = benchmark.trainings()
    assert list(dict.fromkeys(training.task for training in found)) == list(registry.ENTRIES)


@pytest.mark.slow
def test_the_short_form_trains_in_a_process_for_each_row(tmp_path, monkeypatch, capsys):
    with scripts.loaded(SCRIPT) as benchmark:
        trainings = [("newton", "false"), ("adam", "true")]
        monkeypatch.setattr(benchmark, "_TRAININGS", trainings)
        settings = {"quick": True, "steps": 2, "newton": "krylov_dimension=2"}
        with flagsaver.flagsaver(**settings, output_dir=str(tmp_path)):
            benchmark.main([""])
    rows = read(tmp_path / "compile_time.csv")
    assert [(row["optimizer"], row["jit_compile"]) for row in rows] == trainings
    # The first step holds the compilation, by far the most of it all.
    assert all(float(row["first"]) > 3 * float(row["second"]) > 0 for row in rows)
    assert all(row["later"] == row["slowest_later"] == "" for row in rows)
    assert "| deep_autoencoder | adam | true | 288 |" in capsys.readouterr().out


@pytest.mark.parametrize(("optimizer", "jit"), TRAININGS)
def test_a_training_is_compiled_as_it_is_asked_to_be(optimizer, jit):
    with (
        scripts.loaded(FIRST_STEP) as training,
        flagsaver.flagsaver(optimizer=optimizer, jit_compile=jit, newton="krylov_dimension=2"),
    ):
        task, rows = training.trained()
        model = training.compiled_model(task)
    assert (task.rows, rows) == (16, 16)
    asked = {"auto": "auto", "true": True, "false": False}[jit]
    if optimizer == "newton":
        config = model.optimizer.get_config()
        assert (config["jit_compile"], config["krylov_dimension"]) == (asked, 2)
    else:
        # On a CPU Keras resolves "auto" to no XLA.
        assert isinstance(model.optimizer, keras.optimizers.Adam)
        assert model.jit_compile is (jit == "true")


@pytest.mark.parametrize("flag", ["--rows=20", "--task=regression"])
def test_trainings_say_how_long_each_step_took(flag, capsys):
    scripts.call(FIRST_STEP, "--optimizer=adam", "--steps=4", "--models=2", "--quick", flag)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["parameters"] == {"--rows=20": 288, "--task=regression": 115}[flag]
    assert [len(seconds) for seconds in found["seconds"]] == [4, 4]
    first, _ = found["seconds"]
    assert first[0] > max(first[1:]) > 0


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--newton=damping=-1", "--newton=damping=-1 must be arguments such as"),
        ("--steps=1", "flag --steps=1: 1 is not"),
        ("--task=chess", "--task=chess is unknown. Use all or autoencoder, "),
    ],
)
def test_wrong_flags_end_with_a_line(flag, message):
    assert message in scripts.refusal(SCRIPT, flag)
