"""The export of a step and its parts in short form."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from benchmarks.common import deep_autoencoder
from benchmarks.gpu import stablehlo_export
from tests import scripts

SCRIPT = scripts.EXAMPLES / "benchmarks/gpu/export_step.py"
# Of the short form: 12-8-4-8-12.
PARAMETERS, ROWS = 288, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("export")
    flags = ["--quick", "--newton=krylov_dimension=3", f"--output_dir={path}"]
    if tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 21):
        scripts.call(SCRIPT, *flags)
        return path
    try:
        scripts.call(SCRIPT, *flags)
    except SystemExit as stop:
        # The one reason for which there is nothing to test.
        if not re.search(r"^TensorFlow \S+ emits no StableHLO. Use a newer one.$", str(stop.code)):
            raise
    return path


def programs(folder):
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


@pytest.mark.slow
def test_every_program_has_its_files(folder):
    found = programs(folder)
    if found:
        assert set(found) == {
            *("default_step", "step", "renewal", "loss", "gradient", "product", "products_k2"),
            *("products_k4", "lanczos_k2", "lanczos_k4", "eigh_k2", "eigh_k4", "side_8"),
        }
        # Three vectors and the previous step; the gradient's direction and the previous step.
        assert found["step"]["krylov_dimension"] == 4
        assert found["default_step"]["krylov_dimension"] == 2
    for name, about in found.items():
        assert (about["parameters"], about["rows"]) == (PARAMETERS, ROWS)
        assert "tensorflow" in about["made_with"]
        assert (about["flops"] is None) == name.startswith(("eigh", "side"))


@pytest.mark.slow
def test_inputs_and_outputs_are_those_that_the_program_lists(folder):
    for name, about in programs(folder).items():
        text = (folder / f"{name}.stablehlo").read_text()
        for listed, file, key in zip(
            stablehlo_export.signature(text),
            (about["inputs"], about["outputs"]),
            ("arg", "out"),
            strict=True,
        ):
            with np.load(folder / file) as saved:
                assert sorted(saved.files) == [f"{key}{i:02d}" for i in range(len(listed))]
                for shape, array in zip(listed, map(saved.get, sorted(saved.files)), strict=True):
                    assert shape.split("x")[:-1] == [str(size) for size in array.shape], name


@pytest.mark.slow
def test_programs_hold_ops_of_stablehlo_alone(folder):
    """XLA's own dialect is read by JAX on a CPU, and refused by that for GPUs."""
    for name in programs(folder):
        text = (folder / f"{name}.stablehlo").read_text()
        assert set(re.findall(r"^ *(?:%\S+ = )?\"?(\w+)\.", text, re.MULTILINE)) <= {
            *("stablehlo", "func", "chlo"),
        }, name


@pytest.mark.slow
def test_nothing_large_is_a_constant_of_a_program(folder):
    for name in programs(folder):
        text = (folder / f"{name}.stablehlo").read_text()
        constants = re.findall(r"dense<([^>]*)>", text)
        # The grid of dampings is the longest.
        assert max(map(len, constants)) < 200, name


@pytest.mark.slow
def test_outputs_fit_together(folder):
    if not programs(folder):
        return

    def outputs(name):
        with np.load(folder / f"{name}.outputs.npz") as saved:
            return [saved[key] for key in sorted(saved.files)]

    with np.load(folder / "inputs.npz") as saved:
        point, vector, batch = (saved[key] for key in sorted(saved.files))
    assert (point.shape, vector.shape, batch.shape) == ((PARAMETERS,), (PARAMETERS,), (ROWS, 12))
    projected, _ = outputs("lanczos_k4")
    # The first entry is the quotient of Rayleigh of the vector.
    rayleigh = vector @ outputs("product")[0] / (vector @ vector)
    np.testing.assert_allclose(projected[0, 0], rayleigh, rtol=1e-4)
    values, again = outputs("eigh_k4")
    np.testing.assert_allclose(values, np.linalg.eigvalsh(projected), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(again, projected, atol=1e-5 * np.abs(projected).max())
    # The steps start where some from the same weights have led: below.
    assert outputs("step")[0] < outputs("loss")[0]
    assert outputs("default_step")[0] < outputs("loss")[0]


@pytest.mark.slow
def test_a_default_step_is_that_of_fit(folder):
    """What is exported is the step of `fit` after those that came before it."""
    if not programs(folder):
        return
    model = deep_autoencoder.build((12, 8, 4))
    model.compile(keras_sfn.SaddleFreeNewton(jit_compile=True), "mse")
    images = deep_autoencoder.batch((12, 8, 4), ROWS)
    options = {"batch_size": ROWS, "epochs": 4, "shuffle": False, "verbose": 0}
    *_, last = model.fit(images, images, **options).history["loss"]
    with np.load(folder / "default_step.outputs.npz") as saved:
        assert saved["out00"] == pytest.approx(last, rel=1e-5)
        found = {saved[key].shape: saved[key] for key in saved.files}
    for kernel in (layer.kernel.numpy() for layer in model.layers):
        np.testing.assert_allclose(found[kernel.shape], kernel, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--program=loop", "flag --program=loop: value should be one of"),
        ("--krylov_dimension=0", "--krylov_dimension=0 must be integers >= 1"),
        ("--sides=x", "--sides=x must be integers >= 1"),
    ],
)
def test_wrong_flags_end_with_a_line(flag, message):
    assert message in scripts.refusal(SCRIPT, flag)
