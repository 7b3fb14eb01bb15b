import csv

import numpy as np
import pytest
import scipy.stats

from helpers import critical_point_results as lib


def found(kind, loss, share, eigenvalues=(-1.0, 2.0)):
    record = lib.Record(
        training=0,
        epoch=3,
        start_loss=2.0,
        start_gradient_norm=0.5,
        steps=7,
        seconds=1.0,
        outcome="converged",
        kind=kind,
        gradient_norm=1e-9,
        loss=loss,
        error=loss / 10,
        negative_share=share,
        smallest=eigenvalues[0],
        largest=eigenvalues[-1],
    )
    return lib.Found(record, np.array(eigenvalues))


def test_kinds_are_told_apart_by_the_norm():
    kinds = [lib.kind_of(norm, 1e-8) for norm in (0, 1e-8, 1.1e-8, 1e-4, 2e-4)]
    assert kinds == [lib.CRITICAL, lib.CRITICAL, lib.NEAR, lib.NEAR, lib.FAR]


def test_eigenvalues_that_are_zero_to_rounding_are_not_negative():
    assert lib.negative_share(np.array([-3.0, -1e-7, 0.0, 1.0]), 1e-6) == 0.25
    assert lib.negative_share(np.array([-3.0, -1e-5, 0.0, 1.0]), 1e-6) == 0.5


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, 30) / 10  # With equal values.
    y = x**3 + 0.01 * rng.normal(size=30)
    plain, ranks = lib.correlations(x, y)
    assert plain == pytest.approx(scipy.stats.pearsonr(x, y).statistic)
    assert ranks == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert np.isnan(lib.correlations(x, np.ones(30))).all()
    assert np.isnan(lib.correlations(x[:2], y[:2])).all()


def test_levels_are_of_the_best_kind_there_is():
    points = [found(lib.FAR, 9.0, 0.5), *(found(lib.NEAR, loss, 0.1) for loss in (1.0, 3.0, 2.0))]
    shown = lib.levels(points)
    assert [shown[level].record.loss for level in ("high", "middle", "low")] == [3, 2, 1]


def test_files_and_the_table(tmp_path):
    points = [found(lib.CRITICAL, loss, loss / 20) for loss in (1.0, 2.0, 3.0)]
    points.append(found(lib.FAR, 0.1, 0.4))
    lib.write(tmp_path, points, "a title")
    with open(tmp_path / "points.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == [lib.CRITICAL] * 3 + [lib.FAR]
    assert float(rows[1]["negative_share"]) == 0.1
    with open(tmp_path / "spectra.csv") as file:
        spectra = list(csv.DictReader(file))
    assert [float(row["eigenvalue"]) for row in spectra] == [-1, 2] * 3
    for name in ("index.png", "spectra.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    lines = lib.table(points).splitlines()
    assert lines[2] == "| critical | 3 | 0.75 | 1 | 1 | 1 | 1 |"
    assert lines[3].startswith("| near | 0 | 0 | nan")
