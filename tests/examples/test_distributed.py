"""The example on several workers, and the benchmark of replicas, as a user runs them."""

import csv
import re

import pytest

from tests import scripts

pytestmark = pytest.mark.slow

SCRIPTS = {
    "example": scripts.EXAMPLES / "distributed.py",
    "benchmark": scripts.EXAMPLES / "benchmarks/cost/replica_cost.py",
}


def test_two_workers_lose_what_one_device_loses(tmp_path):
    flags = ["--quick", f"--data_dir={tmp_path}", f"--output_dir={tmp_path / 'results'}"]
    output = scripts.run(SCRIPTS["example"], *flags).stdout
    assert float(re.search(r"difference.*: (\S+)", output)[1]) < 1e-3
    assert "2 replicas: epoch 3," in output
    with open(tmp_path / "results" / "losses.csv") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 3
    assert losses[2] < losses[0]
    assert (tmp_path / "results" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "results" / "model.keras").exists()


def test_the_benchmark_counts_the_sums(tmp_path):
    flags = ["--quick", "--krylov_dimension=3", f"--output_dir={tmp_path}"]
    # It makes its own logical devices, which a process can do once.
    scripts.run(SCRIPTS["benchmark"], *flags)
    with open(tmp_path / "replicas.csv") as file:
        assert "keras_sfn" in file.readline()
        one, two = csv.DictReader(file)
    assert (one["sums"], one["long_sums"]) == ("0", "0")
    # The gradient, three Lanczos vectors and the place of the previous step.
    assert two["long_sums"] == "5"
    assert int(two["numbers"]) > 5 * int(two["parameters"])
    assert (tmp_path / "replicas.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "flag", "message"),
    [("benchmark", "--replicas=2,x", "integers >= 1"), ("example", "more", "Unknown arguments")],
)
def test_wrong_flags_end_with_a_line(name, flag, message):
    assert message in scripts.refusal(SCRIPTS[name], flag)
