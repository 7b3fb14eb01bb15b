"""The Lanczos of curvlinops, which makes its spectral densities, with PyTorch's products.

Run by `peers/compare.py`, in an environment of its own. It has no reorthogonalisation and returns
Ritz pairs, not a basis.
"""

from __future__ import annotations

import pathlib
import sys
from unittest import mock

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[3]))

import curvlinops
import numpy as np
import torch
from curvlinops.papyan2020traces import spectrum

from benchmarks.peers import protocol


def build_network(problem: protocol.Problem) -> torch.nn.Sequential:
    """Returns the network; its kernels are (units, inputs)."""
    layers: list[torch.nn.Module] = []
    for kernel, bias, tanh in zip(problem.kernels, problem.biases, problem.tanh, strict=True):
        layer = torch.nn.Linear(*kernel.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(kernel.T))
            layer.bias.copy_(torch.from_numpy(bias))
        layers += [layer, torch.nn.Tanh()] if tanh else [layer]
    return torch.nn.Sequential(*layers)


def start_of(problem: protocol.Problem) -> torch.Tensor:
    """Returns the start in the order of PyTorch's parameters."""
    parts, end = [], 0
    for weights in problem.weights:
        part = problem.start[end : end + weights.size].reshape(weights.shape)
        end += weights.size
        parts.append(part.T.ravel())
    return torch.from_numpy(np.concatenate(parts))


def main() -> None:
    """Reads the problem, times, reports."""
    arguments = protocol.parser(__doc__).parse_args()
    problem = protocol.read_problem(arguments.problem)
    rank = arguments.krylov_dimension
    model = build_network(problem)
    inputs, start = torch.from_numpy(problem.inputs), start_of(problem)
    hessian = curvlinops.HessianLinearOperator(
        model,
        torch.nn.MSELoss(),
        dict(model.named_parameters()),
        [(inputs, inputs)],
        check_deterministic=False,
    )

    def run() -> np.ndarray:
        return spectrum.fast_lanczos(hessian, rank)[0].numpy()

    # It draws its start itself; here it gets that of all others.
    with mock.patch.object(spectrum, "randn", side_effect=lambda *_, **__: start.clone()):
        first, seconds, values = protocol.time_calls(run, arguments.repeats)
    made_with = protocol.versions(["torch", "curvlinops-for-pytorch"])
    protocol.report(made_with, (first, seconds), rank, values, None)


if __name__ == "__main__":
    main()
