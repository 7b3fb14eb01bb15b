"""Trainings of hessianlearn in a process, on a program that stands for the peer's."""

from __future__ import annotations

import math
import re
import sys

import keras
import numpy as np
import pytest

from benchmarks.peers import environments
from benchmarks.time_to_loss import hessianlearn_runs, poisson_network, tasks, training_runs
from tests import scripts

# Writes down what it was asked for and returns two points: the weights, and half of them.
FAKE = """
import json, pathlib, sys
import numpy as np
from benchmarks.peers import training_file

asked = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(asked))
print("peers print what they like")
print(json.dumps({"versions": "fake 1", "budget": float(asked["budget"])}))
training = training_file.read(asked["training"])
if "points_file" in asked:
    np.save(asked["points_file"], np.stack([training.point, training.point / 2]))
print(json.dumps({"seconds": 0.0, "steps": 0, "gradients": 0.0, "loss": 1.0}))
if asked["rank"] == "7":
    sys.exit()
print(json.dumps({"first_step_seconds": 0.5}))
print(json.dumps({"seconds": 2.0, "steps": 7, "gradients": 70.0, "loss": float("nan")}))
"""

BUDGET = training_runs.Budget(seconds=2.0, points=3)
ROWS = hessianlearn_runs.Rows(batch=20, hessian=10)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains a task with the program; returns records, seconds, and what the program was asked."""
    program = tmp_path / "program.py"
    program.write_text(FAKE)
    python = environments.python_of(tmp_path, "hessianlearn")
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={scripts.EXAMPLES} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(hessianlearn_runs, "_PROGRAM", program)

    def train(task, rank=5, step=hessianlearn_runs.LINE_SEARCH):
        setting = hessianlearn_runs.Setting(rank, 0.1, step)
        records, first = hessianlearn_runs.train(task, "who", setting, ROWS, 3, BUDGET, tmp_path)
        return records, first, program.with_suffix(".json").read_text()

    return train


@pytest.fixture
def float64():
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def test_a_task_is_trained_as_asked(train, capsys):
    records, first, asked = train(tasks.digits_autoencoder(hidden=(8, 2), rows=20))
    assert first == 0.5
    assert records[0] == training_runs.Record(0.0, 0, 0.0, 1.0, 1.0)
    assert records[1][:3] == (2.0, 7, 70.0)
    assert math.isnan(records[1].figure)
    assert capsys.readouterr().out == "who: training for 2 s\n"
    for name, value in {
        "budget": "2.0",
        "points": "3",
        "rank": "5",
        "damping": "0.1",
        "globalization": "line_search",
        "batch_rows": "20",
        "hessian_rows": "10",
        "seed": "3",
    }.items():
        assert f'"{name}": "{value}"' in asked
    assert '"step"' not in asked
    assert "points_file" not in asked


def test_a_step_length_takes_the_line_searchs_place(train):
    _, _, asked = train(tasks.digits_autoencoder(hidden=(8, 2), rows=20), step="0.01")
    assert '"globalization": "fixed"' in asked
    assert '"step": "0.01"' in asked


def test_a_run_that_ends_before_its_first_step_has_no_time_of_it(train):
    records, first, _ = train(tasks.digits_autoencoder(hidden=(8, 2), rows=20), rank=7)
    assert len(records) == 1
    assert math.isnan(first)


def test_the_figure_that_counts_is_taken_at_the_points(train, float64):
    task = tasks.poisson(rows=20, hidden=(4,))
    task.set_precision()
    records, _, _ = train(task)
    network = task.build(3)
    expected = [poisson_network.relative_error(network)]
    network.set_weights([part / 2 for part in network.get_weights()])
    expected.append(poisson_network.relative_error(network))
    np.testing.assert_allclose([record.figure for record in records], expected, rtol=1e-12)
    assert abs(expected[0] - expected[1]) > 1e-4


def test_tasks_are_described_with_the_weights_of_the_model(float64):
    adding = tasks.adding(length=6, units=4, rows=10)
    model = adding.build(1)
    described = hessianlearn_runs.describe(adding, model)
    assert [layer.kind for layer in described.layers] == ["simple_rnn", "dense"]
    assert not described.residual
    np.testing.assert_array_equal(described.point[:8], model.get_weights()[0].ravel())
    poisson = tasks.poisson(rows=20, hidden=(4, 3))
    poisson.set_precision()
    described = hessianlearn_runs.describe(poisson, poisson.build(1))
    # The activations are those of the residual.
    layers = [(layer.units, layer.activation) for layer in described.layers]
    assert layers == [(4, "linear"), (3, "linear"), (1, "linear")]
    assert described.residual


def test_a_failure_is_an_error_of_one_line(train, tmp_path):
    (tmp_path / "program.py").write_text("raise RuntimeError('no session')")
    message = r"^Exit status 1 of .*program.py.* --seed=3; .*RuntimeError: no session$"
    with pytest.raises(environments.ProgramError, match=re.compile(message, re.DOTALL)):
        train(tasks.digits_autoencoder(hidden=(8, 2), rows=20))
