"""Peaks of processes in vectors of the length of the parameters."""

import json

import pytest
import tensorflow as tf

from benchmarks.common import deep_autoencoder, measure
from benchmarks.cost import peak_memory
from tests import scripts

SCRIPT = scripts.EXAMPLES / "benchmarks/cost/peak_of_steps.py"


@pytest.mark.parametrize(("program_bytes", "vectors"), [(4000 * 16, 15.0), (None, 17.0)])
def test_memory_is_counted_in_vectors(monkeypatch, program_bytes, vectors):
    asked = []

    def output_of(script, flags):
        assert script.exists()
        asked.append(flags)
        figures = {"parameters": 1000, "basis_rows": 11}
        figures |= {"allocated_bytes": 4000 * 18, "process_bytes": 4000 * 21}
        figures["program_bytes"] = program_bytes
        return f"progress\n{json.dumps(figures)}\n"

    monkeypatch.setattr(measure, "output_of", output_of)
    peak = peak_memory.of_steps((10, 5), 2, 10, "seed=1")
    assert peak == peak_memory.Peak(1000, 10, 11, vectors, vectors - 11, 17.0, 21.0)
    assert asked == [["--widths=10,5", "--rows=2", "--newton=seed=1", "--krylov_dimension=10"]]


@pytest.mark.slow
def test_a_basis_is_seen_in_what_is_allocated(optimized_code):
    flags = ["--widths=1000,500", "--rows=2", "--krylov_dimension=40"]
    figures = json.loads(measure.output_of(SCRIPT, flags).splitlines()[-1])
    assert figures["parameters"] == deep_autoencoder.parameters((1000, 500)) == 1_001_500
    assert figures["basis_rows"] == 41
    vector = 4 * 1_001_500
    # Parameters, basis and six more, of which the previous step is one (older XLA copies one or
    # two); activations are small.
    most = 6 if tf.__version__ >= "2.21" else 8
    assert 43 * vector < figures["program_bytes"] < (42.1 + most) * vector
    # TensorFlow rounds up.
    assert 43 * vector < figures["allocated_bytes"] < 86 * vector
    assert figures["process_bytes"] > 41 * vector


@pytest.mark.slow
def test_the_default_holds_little_beside_basis_and_preconditioner(optimized_code):
    flags = ["--widths=1000,500", "--rows=2", "--krylov_dimension=auto"]
    flags.append("--newton=jit_compile=True")
    figures = json.loads(measure.output_of(SCRIPT, flags).splitlines()[-1])
    # Of the nine that there is room for, these are made at first.
    assert figures["basis_rows"] == 2
    vector = 4 * 1_001_500
    # Eigenvectors of sides of 1001, 500, 501 and 1000, and curvatures.
    preconditioner = 4 * (1001**2 + 500**2 + 501**2 + 1000**2 + 1_001_500)
    # Here a layer's products are half a vector each; a product is a sum over parts of the rows.
    most = 8.5 if tf.__version__ >= "2.21" else 12
    bytes_beyond = figures["program_bytes"] - preconditioner - 10 * vector
    assert 4 * vector < bytes_beyond < most * vector
    # Of the later steps the third is the first in which the preconditioner is not renewed.
    assert figures["compiled_later"] == 0
