"""Tests for examples/benchmarks/peers/protocol.py, and our own program that speaks it."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest

from benchmarks.peers import protocol
from benchmarks.peers.programs import keras_sfn_lanczos


def test_a_problem_survives_its_file(tmp_path):
    problem = protocol.make_problem([6, 5, 3], rows=4, seed=1)
    protocol.write_problem(tmp_path / "problem.npz", problem)
    again = protocol.read_problem(tmp_path / "problem.npz")
    assert again.tanh == problem.tanh == (True, False, True, False)
    for one, other in zip(
        [*again.weights, again.inputs, again.start],
        [*problem.weights, problem.inputs, problem.start],
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32


def test_more_than_ten_layers_keep_their_order(tmp_path):
    problem = protocol.make_problem([8, 7, 6, 5, 4, 3, 2], rows=1, seed=0)
    protocol.write_problem(tmp_path / "problem.npz", problem)
    again = protocol.read_problem(tmp_path / "problem.npz")
    shapes = [kernel.shape for kernel in problem.kernels]
    assert len(shapes) == 12
    assert [kernel.shape for kernel in again.kernels] == shapes


def test_a_problem_is_what_its_seed_says():
    one, other = (protocol.make_problem([6, 5, 3], 4, seed) for seed in (0, 1))
    np.testing.assert_array_equal(protocol.make_problem([6, 5, 3], 4, 0).point, one.point)
    assert not np.allclose(one.point, other.point)
    assert one.start.shape == one.point.shape
    assert np.linalg.norm(one.start) == pytest.approx(1)


def test_the_first_call_is_apart_and_prints_are_left_out(capsys, monkeypatch):
    calls = []
    clock = types.SimpleNamespace(perf_counter=lambda: sum(calls))
    monkeypatch.setattr(protocol, "time", clock)

    def function():
        print("peer")
        calls.append(2 ** -len(calls))  # What this call takes.
        return calls[-1]

    first, seconds, result = protocol.time_calls(function, repeats=2)
    assert (first, seconds, result) == (1, [0.5, 0.25], 0.25)
    assert capsys.readouterr().out == ""


def test_loss_of_orthogonality_over_more_than_a_block():
    basis = np.zeros((2, 3 * 2**16), np.float32)
    basis[0, 0], basis[1, 0], basis[1, -1] = 1, 0.25, 0.5
    # Q Q' = [[1, 0.25], [0.25, 0.3125]]
    assert protocol.loss_of_orthogonality(basis) == 0.6875


def test_our_program_finds_the_spectrum_of_the_same_function(tmp_path, monkeypatch, capsys):
    problem = protocol.make_problem([4, 3, 2], rows=8, seed=0)
    path = tmp_path / "problem.npz"
    protocol.write_problem(path, problem)

    def loss(point):
        values, place = problem.inputs.astype("float64"), 0
        for kernel, tanh in zip(problem.kernels, problem.tanh, strict=True):
            inputs, units = kernel.shape
            end = place + kernel.size
            matrix = point[place:end].reshape(inputs, units)
            values = values @ matrix + point[end : end + units]
            values = np.tanh(values) if tanh else values
            place = end + units
        return np.mean((values - problem.inputs) ** 2)

    # The whole space, so that the extreme Ritz values are the extreme eigenvalues.
    size, step = problem.point.size, 1e-4
    point, moves = problem.point.astype("float64"), step * np.eye(problem.point.size)
    matrix = np.array(
        [
            [
                loss(point + a + b)
                - loss(point + a - b)
                - loss(point - a + b)
                + loss(point - a - b)
                for b in moves
            ]
            for a in moves
        ]
    ) / (4 * step**2)
    eigenvalues = np.linalg.eigvalsh(matrix)
    command = ["program", f"--problem={path}", f"--krylov_dimension={size}", "--repeats=1"]
    monkeypatch.setattr(sys, "argv", [*command, "--orthogonality"])
    keras_sfn_lanczos.main()
    report = protocol.Report(**json.loads(capsys.readouterr().out))
    assert report.smallest == pytest.approx(eigenvalues[0], abs=1e-4)
    assert report.largest == pytest.approx(eigenvalues[-1], abs=1e-4)
    assert (report.products, len(report.seconds)) == (size, 1)
    assert report.orthogonality < 1e-5
    assert "keras_sfn" in report.versions
