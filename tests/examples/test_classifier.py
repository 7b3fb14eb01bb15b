"""The experiment on small classifiers as a user runs it, in short form, and its parts."""

import csv
import math
import re

import numpy as np
import pytest

from helpers import classifier_results, random_search
from helpers.classifier_results import Record
from tests import scripts

EXAMPLE = scripts.EXAMPLES / "classifier.py"
METHODS = ["sgd", "damped_newton", "exact_saddle_free_newton"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.mark.slow
def test_the_quick_form_writes_all_results(data_dir, tmp_path):
    result = scripts.run(EXAMPLE, "--quick", f"--data_dir={data_dir}", f"--output_dir={tmp_path}")
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(dict.fromkeys(row["optimizer"] for row in rows)) == METHODS
    by_name = {name: [row for row in rows if row["optimizer"] == name] for name in METHODS}
    for training in by_name.values():
        assert [int(row["epoch"]) for row in training] == [0, 2, 4]
        # All methods start from the same weights.
        assert training[0]["cross_entropy"] == by_name["sgd"][0]["cross_entropy"]
    starts = [float(by_name[name][0]["most_negative_eigenvalue"]) for name in METHODS[1:]]
    assert starts[0] == pytest.approx(starts[1], rel=1e-4)
    assert starts[0] < 0
    assert float(by_name["sgd"][2]["most_negative_eigenvalue"]) < 0
    ours = [float(row["cross_entropy"]) for row in by_name[METHODS[2]]]
    assert ours[2] < ours[1] < ours[0]
    with open(tmp_path / "draws.csv") as file:
        assert len(list(csv.DictReader(file))) == 2
    assert (tmp_path / "figures.png").read_bytes().startswith(b"\x89PNG")
    assert "best of 2 draws of sgd: Draw(learning_rate=" in result.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset=mnist"], r"--dataset=mnist is not prepared in .* Run again with --download"),
        (["--dataset=no_such_set"], r"--dataset=no_such_set is not in TensorFlow Datasets"),
        (["--optimizer=sgd,newton"], r"--optimizer=newton is unknown. Use sgd, damped_newton or"),
        (["--epochs=3", "--inner_steps=4"], r"--epochs=3 is less than --inner_steps=4"),
        (["extra"], r"Unknown arguments: \['extra'\]"),
    ],
)
def test_what_cannot_be_run_says_so_in_one_line(data_dir, flags, message):
    assert re.search(message, scripts.refusal(EXAMPLE, f"--data_dir={data_dir}", *flags))


def test_error_and_cross_entropy_are_those_of_numpy():
    probabilities = [[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.2, 0.2, 0.6]]
    logits = np.add(np.log(probabilities), [[5], [-900], [900]])
    error, cross_entropy = classifier_results.measure(logits, np.array([0, 0, 2]))
    assert error == pytest.approx(1 / 3)
    assert cross_entropy == pytest.approx(-np.log([0.7, 0.3, 0.6]).mean())


def test_the_best_record_has_the_lowest_error_and_then_the_lowest_cross_entropy():
    records = [
        Record(5, "sgd", 0, 0.0, 0.0, 0.5, 1.0),
        Record(5, "sgd", 1, 1.0, 1.0, 0.2, 0.9),
        Record(5, "sgd", 2, 2.0, 2.0, 0.2, 0.8),
        Record(5, "sgd", 3, 3.0, 3.0, 0.0, math.nan),
    ]
    assert classifier_results.best(records) is records[2]


def test_the_table_shows_the_best_point_the_whole_cost_and_the_last_eigenvalue():
    records = [
        Record(5, "sgd", 10, 1.0, 10.0, 0.25, 0.5, -0.125),
        Record(5, "sgd", 20, 3.0, 20.0, 0.75, 2.0),
        Record(9, "sgd", 10, 1.0, 10.0, 0.0, 0.125),
    ]
    draw = random_search.Draw(0.5, 0.9, 10, 0.1)
    ends = [classifier_results.DrawRecord(5, draw, records[0])]
    lines = classifier_results.table(records, ends).splitlines()
    assert lines[1].split() == ["5", "sgd", "25.00%", "0.5", "10", "3.0", "20", "-0.12"]
    assert lines[2].split() == ["9", "sgd", "0.00%", "0.125", "10", "1.0", "10", "nan"]
    assert lines[3] == f"5 units, best of 1 draws of sgd: {draw}"
