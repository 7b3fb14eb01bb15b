import csv
import pathlib

import pytest

from equations import published

TIMES = published.TIMES


def write_run(folder, name, config, pairs):
    with (folder / f"{name}_best_meta.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["config", "name"], [str(config), name]])
    with (folder / f"{name}_best_history.csv").open("w", newline="") as file:
        # Columns come in any order, and some lines have no error.
        rows = [[error, "1.0", seconds] for seconds, error in pairs]
        csv.writer(file).writerows([["l2_error", "loss", "time"], *rows, ["", "0.5", "2000"]])


def test_errors_are_read_from_the_files_of_the_source(tmp_path):
    write_run(tmp_path, "a", {"optimizer": "KFAC", "KFAC_lr": "auto"}, [(1, 0.5), (9, 0.4)])
    pairs = [(0.5, 0.9), (10.1, 0.7), (59, 0.2), (1001, 0.1)]
    config = {"optimizer": "ENGD", "ENGD_approximation": "per_layer", "KFAC_lr": None}
    write_run(tmp_path, "b", config, pairs)
    write_run(tmp_path, "c", {"optimizer": "HessianFree"}, [(60, float("nan"))])
    found = published.read(tmp_path)
    assert found == {
        "Hessian-free": [None] * 5,
        "KFAC*": [None] * 5,
        "energy natural gradient, per layer": [0.9, 0.2, 0.2, 0.2, 0.1],
    }


def test_a_folder_without_files_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"NAME_best_history.csv in .*f-dangel"):
        published.read(tmp_path)


def test_errors_at_the_times_of_the_comparison():
    assert published.at_times([]) == [None] * 5
    # The last record may be late by the time of a step.
    assert published.at_times([(5, 0.5), (60.5, 0.1)]) == [0.5, 0.1, None, None, None]
    assert published.at_times([(12, 0.5), (100, 0.1)]) == [None, 0.5, 0.1, None, None]


def test_tables_belong_to_an_equation_and_a_network():
    for (equation, _), table in published.TABLES.items():
        assert table.figure in ("rms_error", "relative_error"), equation
        assert all(len(errors) == len(TIMES) for errors in table.errors.values())
        assert bool(table.errors) == bool(table.folder) != bool(table.end)
    assert published.table("poisson", [64]).errors["KFAC*"][0] == 3.2e-3
    assert published.table("poisson", [64, 64, 48, 48]).errors["KFAC*"][4] == 7.9e-7
    assert published.table("poisson", [20]) is None
    assert published.table("wave", [7, 7]).end["Adam + L-BFGS"] == 5.5e-2
    assert not pathlib.Path(published.table("heat", [64]).folder).is_absolute()
