"""Tests for examples/benchmarks/suite/store.py."""

import math

import pytest

from benchmarks.suite import contestants, store
from benchmarks.time_to_loss import training_runs

ADAM = contestants.Contestant("adam", "rate=0.003,batch_size=100")


def run(contestant=ADAM, seed=0, loss=0.5):
    records = [
        training_runs.Record(0.0, 0, 0.0, 1.0, 1.0),
        training_runs.Record(2.0, 7, 3.5, loss, 9),
    ]
    return training_runs.Run(*contestant, seed, "false", 1.25, records, "kind")


@pytest.mark.parametrize("loss", [0.5, math.inf])
def test_a_training_comes_back_as_it_was(tmp_path, loss):
    kept = store.Store(tmp_path / "task", "setup")
    assert kept.find(ADAM, 0) is None
    kept.keep(run(loss=loss))
    assert store.Store(tmp_path / "task", "setup").find(ADAM, 0) == run(loss=loss)
    assert kept.find(ADAM, 1) is None


def test_different_settings_have_different_files(tmp_path):
    kept = store.Store(tmp_path, "setup")
    texts = ["a=1", "a='1'", 'a="1"', "a=1/2", "a=1_2", ""]
    ours = [contestants.Contestant("newton", text) for text in texts]
    for seed, contestant in enumerate(ours):
        kept.keep(run(contestant, seed))
    for seed, contestant in enumerate(ours):
        assert kept.find(contestant, seed).settings == contestant.settings
    assert len(list(tmp_path.iterdir())) == len(texts)


def test_a_file_of_another_setup_is_refused(tmp_path):
    store.Store(tmp_path, "10 rows").keep(run())
    with pytest.raises(SystemExit, match=r"is of `10 rows`, not of `20 rows`\. Name another"):
        store.Store(tmp_path, "20 rows").find(ADAM, 0)


def test_a_trial_of_xla_is_made_once(tmp_path):
    answers = iter([True])
    for _ in range(2):
        assert store.Store(tmp_path, "setup").xla(ADAM, lambda: next(answers)) is True


def test_half_a_file_is_none(tmp_path):
    kept = store.Store(tmp_path, "setup")
    kept.keep(run())
    (path,) = tmp_path.iterdir()
    path.rename(path.with_name(f"{path.name}.part"))
    assert kept.find(ADAM, 0) is None
