import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.objective import batches, parameter_space
from keras_sfn.optimizers import memory


def test_a_basis_that_cannot_fit_is_refused_before_the_first_step():
    model = keras.Sequential([keras.Input((1000,)), keras.layers.Dense(1000, use_bias=False)])
    model.compile(keras_sfn.SaddleFreeNewton(krylov_dimension=10**6), "mse")
    before = model.get_weights()[0]
    wanted = (10**6 + 10) * 10**6 * 4
    with pytest.raises(MemoryError) as error:
        model.fit(np.ones((2, 1000)), np.ones((2, 1000)), verbose=0)
    message = str(error.value)
    assert f"n = {10**6} parameters with a basis of k = {10**6} vectors takes {wanted}" in message
    assert f"the machine has {memory.device_memory()[0]}" in message
    assert "Set `krylov_dimension` to" in message
    np.testing.assert_array_equal(model.get_weights()[0], before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_counts_is_the_basis_and_ten_vectors(monkeypatch, dtype):
    space = parameter_space.ParameterSpace([keras.Variable(np.zeros(100), dtype=dtype)])
    size = {"float32": 4, "float64": 8}[dtype]
    monkeypatch.setattr(memory, "device_memory", lambda: (20 * 100 * size, "machine"))
    memory.refuse_basis_too_large(space, 10)
    with pytest.raises(MemoryError, match="Set `krylov_dimension` to 5 or less"):
        memory.refuse_basis_too_large(space, 11)
    monkeypatch.setattr(memory, "device_memory", lambda: (11 * 100 * size, "GPU"))
    with pytest.raises(MemoryError, match=r"the GPU has .* Train fewer variables"):
        memory.refuse_basis_too_large(space, 11)


def test_a_preconditioner_counts_too(monkeypatch):
    space = parameter_space.ParameterSpace([keras.Variable(np.zeros((10, 10)), dtype="float32")])
    monkeypatch.setattr(memory, "device_memory", lambda: (20 * 400, "machine"))
    memory.refuse_basis_too_large(space, 8, factors=200)
    with pytest.raises(MemoryError, match=r"201 numbers of the preconditioner.* to 3 or less"):
        memory.refuse_basis_too_large(space, 8, factors=201)
    with pytest.raises(MemoryError, match="Use krylov_dimension=1"):
        memory.refuse_basis_too_large(space, 2, factors=900)
    optimizer = keras_sfn.SaddleFreeNewton(curvature_batch_size=None)
    # Twice 10 x 10 and a trace, and a curvature for each parameter, four times.
    with pytest.raises(MemoryError, match="1204 numbers"):
        optimizer.step(batches.Batch(None, lambda _: lambda: (None, None), space))


def test_a_hand_written_loop_is_told_too(monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: (100, "machine"))
    v = keras.Variable(np.zeros(100))
    optimizer = keras_sfn.SaddleFreeNewton(krylov_dimension=10)
    with pytest.raises(MemoryError, match="n = 100 parameters with a basis of k = 11"):
        optimizer.minimize(lambda: tf.reduce_sum(v.value**2), [v])


def test_a_container_may_have_less_than_the_machine(monkeypatch, tmp_path):
    total, _ = memory.device_memory()
    assert 2**28 < total < 2**50
    for text, expected in (("1048576\n", 2**20), ("max\n", total)):
        (tmp_path / "memory.max").write_text(text)
        monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(tmp_path / "memory.max"),))
        assert memory.device_memory()[0] <= expected
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(tmp_path / "none"),))
    assert memory.device_memory()[0] >= total


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("81559\n81559\n", 81559 * 2**20), ("No devices were found\n", math.inf), ("", math.inf)],
)
def test_memory_of_a_gpu_is_that_of_the_largest(monkeypatch, tmp_path, answer, expected):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{answer}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    memory._largest_gpu.cache_clear()
    assert memory.device_memory() == (expected, "GPU")
    memory._largest_gpu.cache_clear()


def test_of_a_whole_hessian_eight_matrices_of_float64_count(monkeypatch):
    space = parameter_space.ParameterSpace([keras.Variable(np.zeros(100), dtype="float32")])
    monkeypatch.setattr(memory, "device_memory", lambda: (8 * 100**2 * 8, "machine"))
    memory.refuse_hessian_too_large(space)
    monkeypatch.setattr(memory, "device_memory", lambda: (8 * 100**2 * 8 - 1, "machine"))
    with pytest.raises(MemoryError, match=r"n = 100 parameters takes 640000 bytes"):
        memory.refuse_hessian_too_large(space)
