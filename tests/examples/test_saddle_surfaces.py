"""The trajectories are those of the paper's first figure."""

import csv

import numpy as np
import pytest

from tests import scripts

EXAMPLE = scripts.EXAMPLES / "saddle_surfaces.py"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The last point of each trajectory, and how many points it has."""
    folder = tmp_path_factory.mktemp("results")
    scripts.call(EXAMPLE, f"--output_dir={folder}")
    assert (folder / "trajectories.png").read_bytes().startswith(b"\x89PNG")
    ends = {}
    with open(folder / "trajectories.csv") as file:
        for row in csv.DictReader(file):
            key = row["surface"], row["method"]
            ends[key] = int(row["step"]), np.array([float(row["x"]), float(row["y"])])
    return ends


@pytest.mark.slow
@pytest.mark.parametrize("surface", ["5 x^2 - y^2", "monkey saddle"])
def test_newton_runs_into_the_saddle_and_ours_leaves(results, surface):
    _, drawn = results[surface, "Newton"]
    assert np.linalg.norm(drawn) < 0.05
    steps, left = results[surface, "saddle-free Newton"]
    assert np.abs(left).max() > 1
    assert steps < 60


@pytest.mark.slow
def test_gradient_descent_lingers(results):
    ours, _ = results["5 x^2 - y^2", "saddle-free Newton"]
    theirs, _ = results["5 x^2 - y^2", "gradient descent"]
    assert theirs > 2 * ours
