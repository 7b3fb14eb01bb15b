"""Tests for examples/benchmarks/suite/contest.py."""

import types

import pytest

from benchmarks.common import measure
from benchmarks.suite import contest, contestants, store
from benchmarks.time_to_loss import training_runs

# What the loss of a contestant is; the search begins at 3e-3.
LOSSES = {"newton": 0.5, "adam": 1.0, "sgd": 3.0, "lbfgs": 2.0}


class Starter:
    """Trains in no time, the better the nearer the rate is to 1e-2."""

    def __init__(self, failing=()):
        self.trained = []
        self.tried = []
        self.failing = failing

    def train(self, contestant, seed, *, xla):
        self.trained.append((contestant.method, contestant.settings, seed, xla))
        if contestant.method in self.failing:
            raise measure.ProgramError("it went wrong")
        rate = (
            float(contestant.settings.split(",")[0].removeprefix("rate=") or 1)
            if (contestant.settings.startswith("rate="))
            else 1e-2
        )
        loss = LOSSES[contestant.method] * max(rate / 1e-2, 1e-2 / rate)
        records = [training_runs.Record(float(t), t, t, loss, 7.0) for t in range(2)]
        return training_runs.Run(*contestant, seed, str(xla), 0.1, records)

    def xla_is_faster(self, contestant):
        self.tried.append(contestant)
        return True


def hold(tmp_path, starter, methods, seeds=(0,), finalists=1, deterministic=True, variants=("",)):
    entry = types.SimpleNamespace(
        task=types.SimpleNamespace(name="bowl"),
        deterministic=deterministic,
        rate=3e-3,
        rival_rows=(100,),
    )
    kept = store.Store(tmp_path, "setup")
    return contest.Contest(entry, kept, starter, 6).run(methods, variants, seeds, finalists)


def test_the_best_settings_of_rivals_are_found_and_the_best_rivals_have_all_seeds(tmp_path):
    starter = Starter()
    groups = hold(tmp_path, starter, ["newton", "adam", "sgd", "lbfgs"], seeds=(0, 1))
    names = [(each.method, each.settings, len(runs)) for each, runs in groups.items()]
    assert names[0] == ("newton", "", 2)
    assert names[1] == ("adam", "rate=0.0095,batch_size=100", 2)
    assert names[2][::2] == ("lbfgs", 1)
    # Its search begins at three times Adam's rate.
    assert names[3] == ("sgd", "rate=0.009,batch_size=100", 1)
    # Whether XLA helps does not depend on the rate.
    assert [str(each) for each in starter.tried] == [
        "adam (rate=0.003,batch_size=100)",
        "sgd (rate=0.009,batch_size=100)",
        "lbfgs (memory=10)",
        "lbfgs (memory=50)",
    ]
    assert {xla for method, _, _, xla in starter.trained if method != "newton"} == {True}
    assert {xla for method, _, _, xla in starter.trained if method == "newton"} == {False}


def test_what_is_there_is_not_trained_again(tmp_path):
    first = Starter()
    before = hold(tmp_path, first, ["newton", "adam"])
    again = Starter()
    assert hold(tmp_path, again, ["newton", "adam"]) == before
    assert again.trained == again.tried == []
    more = Starter()
    hold(tmp_path, more, ["newton", "adam"], seeds=(0, 1), variants=("", "krylov_dimension=3"))
    assert [run[:3] for run in more.trained] == [
        ("newton", "", 1),
        ("newton", "krylov_dimension=3", 0),
        ("newton", "krylov_dimension=3", 1),
        ("adam", "rate=0.0095,batch_size=100", 1),
    ]


def test_a_training_that_fails_is_told_and_tried_again(tmp_path, capsys):
    groups = hold(tmp_path, Starter(failing=["newton"]), ["newton", "adam"])
    assert [each.method for each in groups] == ["adam"]
    assert "bowl: newton (defaults), seed 0 failed: it went wrong" in capsys.readouterr().out
    assert [each.method for each in hold(tmp_path, Starter(), ["newton", "adam"])] == [
        "newton",
        "adam",
    ]


def test_lbfgs_has_no_place_where_batches_are_parts(tmp_path):
    groups = hold(tmp_path, Starter(), ["adam", "lbfgs"], deterministic=False)
    assert [each.method for each in groups] == ["adam"]


@pytest.mark.parametrize("method", list(contestants.START_RATES))
def test_every_first_order_method_has_a_start(method, tmp_path, monkeypatch):
    monkeypatch.setitem(LOSSES, method, 1.0)
    groups = hold(tmp_path, Starter(), [method])
    assert [each.method for each in groups] == [method]
