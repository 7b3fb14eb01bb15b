"""The search for critical points as a user runs it, in short form, and its parts."""

import csv
import re

import numpy as np
import pytest

from tests import scripts

EXAMPLE = scripts.EXAMPLES / "critical_points.py"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.mark.slow
def test_the_quick_form_finds_a_critical_point_and_writes_all_results(data_dir, tmp_path, capsys):
    scripts.call(EXAMPLE, "--quick", f"--data_dir={data_dir}", f"--output_dir={tmp_path}")
    with open(tmp_path / "points.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["training"] for row in rows] == ["0", "0", "1", "1"]
    assert "critical" in {row["kind"] for row in rows}
    for row in rows:
        norm = float(row["gradient_norm"])
        assert (row["kind"] == "critical") == (norm <= 1e-8)
        assert norm < float(row["start_gradient_norm"])
        assert 0 <= float(row["negative_share"]) <= 1
        assert float(row["smallest"]) < float(row["largest"])
    with open(tmp_path / "spectra.csv") as file:
        spectra = list(csv.DictReader(file))
    parameters = 16 * 3 + 3 + 3 * 10 + 10
    assert len(spectra) == 3 * parameters
    assert list(dict.fromkeys(row["level"] for row in spectra)) == ["high", "middle", "low"]
    for name in ("index.png", "spectra.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert f"digits, 100 images, {parameters} parameters" in printed
    assert re.search(r"\| critical \| [1-4] \|", printed)


def test_what_cannot_be_run_says_so_in_one_line(data_dir):
    line = scripts.refusal(EXAMPLE, f"--data_dir={data_dir}", "--dataset=mnist")
    assert re.search(r"--dataset=mnist is not prepared in .* Run again with --download", line)
    assert (
        scripts.refusal(EXAMPLE, "extra")
        == "Unknown arguments: ['extra']. Every setting is a --flag."
    )


def test_the_landscape_is_a_function_of_its_vector():
    rng = np.random.default_rng(0)
    images, labels = rng.uniform(size=(12, 4)), rng.integers(0, 3, 12)
    with scripts.loaded(EXAMPLE) as module:
        landscape = module.Landscape(images, labels, 3)
        size = landscape.model.count_params()
        point, along = rng.normal(size=(2, size))
        ahead, behind = point + 1e-5 * along, point - 1e-5 * along
        slope = (landscape.loss(ahead) - landscape.loss(behind)) / 2e-5
        assert landscape.gradient(point) @ along == pytest.approx(slope, rel=1e-6)
        product = (landscape.gradient(ahead) - landscape.gradient(behind)) / 2e-5
        np.testing.assert_allclose(landscape.hessian(point) @ along, product, atol=1e-7)
        np.testing.assert_array_equal(landscape.point, point)  # The last call's.
        assert landscape.error(point) in [wrong / 12 for wrong in range(13)]


def test_searches_start_evenly_in_loss():
    losses = [2.0, 1.9, 1.0, 0.5, 0.1, 0.0, 0.05]
    with scripts.loaded(EXAMPLE) as module:
        assert module.evenly(losses, 3) == [0, 2, 5]
        assert module.evenly(losses, 1) == [0]
