"""The benchmark of the first step in short form."""

import csv
import json

import keras
import pytest
from absl.testing import flagsaver

from benchmarks.common import measure
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


def test_the_trainings_take_turns_and_a_row_has_the_medians(tmp_path, monkeypatch, capsys):
    asked = []

    def output_of(script, flags):
        assert script == FIRST_STEP
        asked.append(dict(flag.removeprefix("--").split("=", 1) for flag in flags))
        turn = (len(asked) - 1) // len(TRAININGS)
        seconds = [[5.0, 0.5, 0.25, 0.75], [9.0, 0.75, 1.0, 1.0], [4.0, 0.25, 0.5, 0.5]][turn]
        return f"progress\n{json.dumps({'seconds': seconds})}\n"

    monkeypatch.setattr(measure, "output_of", output_of)
    flags = ["--widths=12,8,4", "--rows=16", "--steps=4", "--newton=seed=1", "--repeats=3"]
    scripts.call(SCRIPT, *flags, f"--output_dir={tmp_path}")
    assert [(run["optimizer"], run["jit_compile"]) for run in asked] == TRAININGS * 3
    settings = {"widths": "12,8,4", "rows": "16", "steps": "4", "newton": "seed=1"}
    assert all(settings.items() <= run.items() for run in asked)
    rows = read(tmp_path / "compile_time.csv")
    assert [(row["optimizer"], row["jit_compile"]) for row in rows] == TRAININGS
    for row in rows:
        found = [float(row[name]) for name in ("first", "longest", "second", "later")]
        assert [*found, float(row["slowest_later"])] == [5, 9, 0.5, 0.625, 1]
    assert "| adam | true | 288 | 5 | 9 | 0.5 | 0.625 | 1 |" in capsys.readouterr().out
    assert (tmp_path / "compile_time.png").read_bytes().startswith(b"\x89PNG")


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
    assert "| adam | true | 288 |" in capsys.readouterr().out


@pytest.mark.parametrize(("optimizer", "jit"), TRAININGS)
def test_a_training_is_compiled_as_it_is_asked_to_be(optimizer, jit):
    with (
        scripts.loaded(FIRST_STEP) as training,
        flagsaver.flagsaver(optimizer=optimizer, jit_compile=jit, newton="krylov_dimension=2"),
    ):
        model = training.compiled_model((12, 8, 4))
    asked = {"auto": "auto", "true": True, "false": False}[jit]
    if optimizer == "newton":
        config = model.optimizer.get_config()
        assert (config["jit_compile"], config["krylov_dimension"]) == (asked, 2)
    else:
        # On a CPU Keras resolves "auto" to no XLA.
        assert isinstance(model.optimizer, keras.optimizers.Adam)
        assert model.jit_compile is (jit == "true")


def test_one_training_says_how_long_each_step_took(capsys):
    scripts.call(FIRST_STEP, "--optimizer=adam", "--steps=4")
    seconds = json.loads(capsys.readouterr().out.splitlines()[-1])["seconds"]
    assert len(seconds) == 4
    assert seconds[0] > max(seconds[1:]) > 0


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--newton=damping=-1", "--newton=damping=-1 must be arguments such as"),
        ("--steps=1", "flag --steps=1: 1 is not"),
    ],
)
def test_wrong_flags_end_with_a_line(flag, message):
    assert message in scripts.refusal(SCRIPT, flag)
