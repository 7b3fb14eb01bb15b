"""The example on several workers, and the benchmark of replicas, as a user runs them."""

import csv
import re

import pytest

from tests import scripts

pytestmark = [pytest.mark.slow, pytest.mark.first]

SCRIPTS = {
    "example": scripts.EXAMPLES / "distributed.py",
    "benchmark": scripts.EXAMPLES / "benchmarks/cost/replica_cost.py",
    "workers": scripts.EXAMPLES / "benchmarks/cost/worker_speed.py",
}


def test_two_workers_lose_what_one_device_loses(tmp_path):
    flags = ["--quick", f"--data_dir={tmp_path}", f"--output_dir={tmp_path / 'results'}"]
    output = scripts.run(SCRIPTS["example"], *flags).stdout
    assert float(re.search(r"difference.*: (\S+)", output)[1]) < 1e-3
    assert "2 replicas: epoch 3," in output
    assert "Kind of step: preconditioned directions" in output
    with open(tmp_path / "results" / "losses.csv") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 3
    assert losses[2] < losses[0]
    assert (tmp_path / "results" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "results" / "model.keras").exists()


@pytest.mark.parametrize(
    ("flags", "long_sums", "in_renewal"),
    [
        # The gradient, three Lanczos vectors and the place of the previous step.
        (["--krylov_dimension=3"], 5, 5),
        # The gradient, a direction and the previous step. Of a renewal four samples, four products
        # and the eigenvectors; the direction and the previous step for two more shifts.
        ([], 3, 3 + 4 + 4 + 1 + 4),
    ],
)
def test_the_benchmark_counts_the_sums(flags, long_sums, in_renewal, tmp_path):
    flags = ["--quick", *flags, f"--output_dir={tmp_path}"]
    # It makes its own logical devices, which a process can do once.
    scripts.run(SCRIPTS["benchmark"], *flags)
    with open(tmp_path / "replicas.csv") as file:
        assert "keras_sfn" in file.readline()
        one, two = csv.DictReader(file)
    assert (one["sums"], one["long_sums"]) == ("0", "0")
    assert int(two["long_sums"]) == long_sums
    assert in_renewal <= int(two["renewal_long_sums"]) <= in_renewal + 2
    assert int(two["numbers"]) > long_sums * int(two["parameters"])
    assert (tmp_path / "replicas.png").read_bytes().startswith(b"\x89PNG")


def test_the_clock_of_the_workers_stops_at_the_loss(tmp_path):
    # After the first step, whatever its loss.
    flags = ["--workers=1", "--rows=32", "--loss=9", f"--output_dir={tmp_path}"]
    scripts.run(SCRIPTS["workers"], *flags)
    with open(tmp_path / "workers.csv") as file:
        assert "keras_sfn" in file.readline()
        [one] = csv.DictReader(file)
    assert (one["workers"], one["steps"], float(one["seconds"])) == ("1", "1", 0)


@pytest.mark.parametrize(
    ("name", "flag", "message"),
    [
        ("benchmark", "--replicas=2,x", "integers >= 1"),
        ("example", "more", "Unknown arguments"),
        ("workers", "--workers=0", "integers from 1"),
    ],
)
def test_wrong_flags_end_with_a_line(name, flag, message):
    assert message in scripts.refusal(SCRIPTS[name], flag)
