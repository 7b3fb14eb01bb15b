"""Peaks of processes in vectors of the length of the parameters."""

import json
import pathlib

import deep_autoencoder
import measure
import peak_memory
import pytest

SCRIPT = pathlib.Path(__file__).parent.parent / "examples" / "benchmarks" / "peak_of_steps.py"


def test_memory_is_what_grows_with_the_parameters(monkeypatch):
    answers = {"--widths=10,5": (1000, 70_000), "--widths=20,5": (3000, 70_000 + 2000 * 4 * 18)}
    asked = []

    def output_of(script, flags):
        assert script.exists()
        asked.append(flags)
        parameters, peak = answers[flags[0]]
        figures = {"parameters": parameters, "peak_bytes": peak, "basis_rows": 11}
        return f"progress\n{json.dumps(figures)}\n"

    monkeypatch.setattr(measure, "output_of", output_of)
    peak = peak_memory.of_step((10, 5), (20, 5), 2, 10, "seed=1")
    assert peak == peak_memory.Peak(10, 11, 1000, 3000, 17.0, 6.0)
    assert asked[0] == ["--widths=10,5", "--rows=2", "--newton=seed=1", "--krylov_dimension=10"]


@pytest.mark.slow
def test_thirty_vectors_more_are_seen_in_the_peak_of_a_process():
    peaks = []
    for dimension in (10, 40):
        flags = ["--widths=5000,500", "--rows=2", f"--krylov_dimension={dimension}"]
        output = measure.output_of(SCRIPT, flags)
        peaks.append(json.loads(output.splitlines()[-1]))
        assert peaks[-1]["basis_rows"] == dimension + 1
    assert peaks[0]["parameters"] == deep_autoencoder.parameters((5000, 500)) == 5_005_500
    more = (peaks[1]["peak_bytes"] - peaks[0]["peak_bytes"]) / (4 * peaks[0]["parameters"])
    # Under XLA some copies of blocks of the basis come on top.
    assert 29 < more < 45
