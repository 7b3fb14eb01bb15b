"""Tests for examples/benchmarks/time_to_loss/results.py."""

import math

import pytest

from benchmarks.time_to_loss import results
from benchmarks.time_to_loss.training_runs import Record, Run


def run(figures, method="adam", settings="a", seed=0, seconds=None, gradients=10.0):
    seconds = seconds or list(range(len(figures)))
    records = [
        Record(float(second), int(10 * second), gradients * second, 2 * figure, figure)
        for second, figure in zip(seconds, figures, strict=True)
    ]
    return Run(method, settings, seed, "false", 0.5, records)


def test_the_figure_is_reached_on_the_line_between_two_logarithms():
    # 1 to 0.01 in one second: 0.1 after half of it.
    assert results.reached(run([10, 1, 0.01]), 0.1) == pytest.approx((1.5, 15))
    assert results.reached(run([10, 1, 0.01]), 0.01) == pytest.approx((2, 20))
    assert results.reached(run([10, 1, 0.01]), 1) == pytest.approx((1, 10))


def test_the_first_time_counts():
    assert results.reached(run([10, 1, 10, 0.1]), 1)[0] == 1


def test_a_figure_that_is_not_reached():
    assert results.reached(run([10, 1]), 0.5) == (math.inf, math.inf)
    assert results.reached(run([10, math.nan]), 0.5) == (math.inf, math.inf)


def test_after_an_infinite_figure_and_at_zero_the_record_itself_counts():
    assert results.reached(run([math.inf, 0.1]), 0.5)[0] == 1
    assert results.reached(run([1.0, 0.0]), 0.5)[0] == 1


def test_a_diverged_run_is_worse_than_any():
    runs = [run([1, math.nan]), run([1, 0.5]), run([1, 0.25])]
    assert results.final(runs[0]) == math.inf
    assert results.median_final(runs) == 0.5


def file(tmp_path, resume=False, setup="poisson, 40 s"):
    return results.Results(tmp_path / "runs.csv", setup, "numpy 2", resume)


def test_runs_are_read_again_as_they_were_written(tmp_path):
    written = [run([1, 0.5], seed=1), run([3, 2, 1], "newton", "k=1,inner_steps=2")]
    first = file(tmp_path)
    assert first.runs == []
    for each in written:
        first.append(each)
    again = file(tmp_path, resume=True)
    assert again.runs == first.runs == written
    assert again.find("newton", "k=1,inner_steps=2", 0) == written[1]
    assert again.find("adam", "a", 1) == written[0]
    assert again.find("adam", "a", 0) is None
    lines = (tmp_path / "runs.csv").read_text().splitlines()
    assert lines[:2] == ["# numpy 2", "# poisson, 40 s"]
    assert lines[2] == ",".join(results.HEADER)


def test_results_are_not_lost_or_mixed(tmp_path):
    file(tmp_path).append(run([1, 0.5]))
    with pytest.raises(SystemExit, match=r"has results already\. Add --resume"):
        file(tmp_path)
    with pytest.raises(SystemExit, match="is of `poisson, 40 s`, not of `poisson, 20 s`"):
        file(tmp_path, resume=True, setup="poisson, 20 s")
    assert len(file(tmp_path, resume=True).runs) == 1


GROUPS = {
    ("adam", "rate 0.1"): [run([1, 0.5, 0.1], seed=seed) for seed in range(3)],
    ("newton", "defaults"): [run([1, 0.1, 0.01], "newton", seed=seed) for seed in range(3)],
    ("lbfgs", "memory 9"): [run([1, 0.9, 0.8], "lbfgs", seed=seed) for seed in range(3)],
}


def test_the_table_compares_with_adam():
    text = results.table(GROUPS, ("adam", "rate 0.1"), 2.0, "loss")
    header, _, adam, newton, lbfgs = text.splitlines()
    assert header.startswith("| optimizer | settings | loss at the end (range) | over Adam's |")
    assert adam == "| adam | rate 0.1 | 0.1 (0.1 to 0.1) | 1 | 2 | 1.00 | 20 | 20 | 3 |"
    assert newton == "| newton | defaults | 0.01 (0.01 to 0.01) | 0.1 | 1 | 0.50 | 10 | 20 | 3 |"
    assert lbfgs.endswith("| 0.8 (0.8 to 0.8) | 8 | not reached | - | - | 20 | 3 |")
    assert {line.count("|") for line in text.splitlines()} == {10}


def test_the_figure_is_drawn_with_runs_that_end_early_or_diverge(tmp_path):
    groups = GROUPS | {("sgd", "x"): [run([1, 0.5, math.nan], "sgd"), run([1, 0.4], "sgd")]}
    results.plot(tmp_path / "curves.png", groups, "title", "loss", "numpy 2")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
