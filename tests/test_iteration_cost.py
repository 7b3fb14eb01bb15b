"""The benchmark of one Lanczos iteration in short form, and what it is made of."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import deep_autoencoder
import iteration_programs
import measure
import newton_options
import numpy as np
import peak_memory
import pytest
import tensorflow as tf

import keras_sfn

BENCHMARKS = pathlib.Path(__file__).parent.parent / "examples" / "benchmarks"
SCRIPT = BENCHMARKS / "iteration_cost.py"
WIDTHS = (12, 8, 4)


def run(*flags, check=True):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *flags],
        capture_output=True,
        text=True,
        check=check,
        timeout=500,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(BENCHMARKS.parent.parent), *sys.path])},
    )


def read(path):
    with open(path) as file:
        assert file.readline().startswith("# Python")
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_short_form_writes_a_row_a_case(tmp_path):
    output = run("--quick", f"--output_dir={tmp_path}").stdout
    rows = read(tmp_path / "iteration_cost.csv")
    n = deep_autoencoder.parameters(WIDTHS)
    assert [row["swept"] for row in rows] == ["default", "parameters", "rows", "krylov_dimension"]
    assert [int(row["parameters"]) for row in rows] == [n, 755, n, n]
    assert [int(row["rows"]) for row in rows] == [16, 16, 8, 16]
    assert [int(row["krylov_dimension"]) for row in rows] == [4, 4, 4, 6]
    assert all(float(row["gradient_seconds"]) > 0 for row in rows)
    assert "| default | 288 | 16 | 4 |" in output
    assert (tmp_path / "iteration_cost.png").read_bytes().startswith(b"\x89PNG")


def test_what_does_not_fit_is_left_out_with_the_reason(tmp_path):
    none = ["--sweep_parameters=", "--sweep_rows=", "--sweep_krylov="]
    result = run("--rows=100000000000", *none, f"--output_dir={tmp_path}", check=False)
    assert "Left out: Case(swept='default'" in result.stdout
    assert "bytes are more than half of the machine's" in result.stdout
    assert result.stderr.strip().splitlines()[-1].startswith("No case fits into memory.")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--widths=12", "--widths=12 must be integers >= 1, at least 2 of them"),
        ("--sweep_krylov=8,4", "--sweep_krylov=8,4 must be more than the --short=4 iterations."),
        ("--newton=x=1", "`x` is not an argument of this optimizer"),
    ],
)
def test_wrong_flags_end_with_a_line(flag, message):
    result = run(flag, check=False)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_two_sizes_of_the_memory_must_differ():
    result = run("--memory", "--memory_parameters=5e3,5e3", check=False)
    assert result.stderr.strip().splitlines()[-1] == (
        "--memory_parameters=5e3,5e3 must be two numbers, the smaller one first."
    )


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
        output = measure.output_of(BENCHMARKS / "peak_of_steps.py", flags)
        peaks.append(json.loads(output.splitlines()[-1]))
        assert peaks[-1]["basis_rows"] == dimension + 1
    assert peaks[0]["parameters"] == deep_autoencoder.parameters((5000, 500)) == 5_005_500
    more = (peaks[1]["peak_bytes"] - peaks[0]["peak_bytes"]) / (4 * peaks[0]["parameters"])
    # Under XLA some copies of blocks of the basis come on top.
    assert 29 < more < 45


def test_loops_and_gradient_are_those_of_the_hessian():
    programs = iteration_programs.Programs(WIDTHS, rows=16)
    model = deep_autoencoder.build(WIDTHS)
    model.compile(loss="mse")
    _, vector, batch = programs.arguments
    hessian = keras_sfn.HessianOperator.from_model(model, batch, batch)
    np.testing.assert_allclose(programs.loss()(*programs.arguments), hessian.loss(), rtol=1e-6)
    gradient = programs.gradient()(*programs.arguments)
    np.testing.assert_allclose(gradient, hessian.gradient(), rtol=1e-5, atol=1e-8)
    product = programs.product()(*programs.arguments)
    np.testing.assert_allclose(product, hessian.matvec(vector), rtol=1e-4, atol=1e-7)
    norm, along = programs.products(3)(*programs.arguments)
    expected = vector
    for _ in range(3):
        before = expected / tf.norm(expected)
        expected = hessian.matvec(before)
    np.testing.assert_allclose(norm, tf.norm(expected), rtol=1e-4)
    last = tf.tensordot(expected / tf.norm(expected), vector, 1)
    np.testing.assert_allclose(along, last, rtol=1e-3)


@pytest.mark.parametrize("reorthogonalize", [True, False])
def test_the_lanczos_process_is_the_optimizers(reorthogonalize):
    programs = iteration_programs.Programs(WIDTHS, rows=16)
    model = deep_autoencoder.build(WIDTHS)
    model.compile(loss="mse")
    _, vector, batch = programs.arguments
    hessian = keras_sfn.HessianOperator.from_model(model, batch, batch)
    projected, residual = programs.krylov(5, reorthogonalize)(*programs.arguments)
    expected = keras_sfn.lanczos(hessian.matvec, vector, 5, reorthogonalize)
    scale = float(tf.reduce_max(tf.abs(expected.projected)))
    np.testing.assert_allclose(projected, expected.projected, atol=1e-4 * scale)
    np.testing.assert_allclose(residual, tf.norm(expected.residual), rtol=1e-2)


def test_a_pass_over_vectors_changes_all_of_them():
    programs = iteration_programs.Programs(WIDTHS, rows=16)
    point, vector, _ = programs.arguments
    expected = point[0] + 0.5 * (point[0] + 0.5 * vector[0])
    np.testing.assert_allclose(programs.vector_passes(2)(*programs.arguments), expected, rtol=1e-6)


def test_scaled_widths_keep_proportions_and_reach_the_size():
    assert deep_autoencoder.parameters(deep_autoencoder.WIDTHS) == 2_837_314
    for size in (1e4, 1e5, 1e7):
        widths = deep_autoencoder.scaled(deep_autoencoder.WIDTHS, int(size))
        assert abs(deep_autoencoder.parameters(widths) / size - 1) < 0.05
        assert abs(widths[1] / widths[0] / (1000 / 784) - 1) < 0.03
    assert deep_autoencoder.build(WIDTHS).count_params() == deep_autoencoder.parameters(WIDTHS)


def test_arguments_of_the_optimizer_in_a_flag():
    optimizer = newton_options.optimizer(
        "newton", 'krylov_dimension=5, damping="adaptive"', krylov_dimension=3, inner_steps=2
    )
    assert (optimizer.krylov_dimension, optimizer.damping) == (5, "adaptive")
    assert optimizer.inner_steps == 2


@pytest.mark.parametrize("text", ["5", "*a", "**a", "k=", "seed=[", "seed=print()", "seed=-1"])
def test_what_are_no_arguments_of_the_optimizer_is_said_in_a_line(text):
    with pytest.raises(SystemExit, match=r"--newton=.* must be arguments such as") as error:
        newton_options.optimizer("newton", text)
    assert "\n" not in str(error.value)
