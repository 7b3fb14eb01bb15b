"""matfree's Lanczos, fully reorthogonalised, with JAX's products, in one program of XLA's.

Run by `peers/compare.py`, in an environment of its own. `--product=jvp` is the derivative of the
gradient along a vector, all of it anew at each product; `--product=linearize` takes once what does
not depend on the vector, and keeps it.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[3]))

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from matfree import decomp

from benchmarks.peers import protocol


def main() -> None:
    """Reads the problem, times, reports."""
    parser = protocol.parser(__doc__)
    parser.add_argument("--product", choices=("jvp", "linearize"), required=True)
    arguments = parser.parse_args()
    problem = protocol.read_problem(arguments.problem)
    rank = arguments.krylov_dimension
    tridiagonalise = decomp.tridiag_sym(rank, reortho="full")

    def loss(weights: Any, inputs: Any) -> Any:
        values = inputs
        for kernel, bias, tanh in zip(weights[::2], weights[1::2], problem.tanh, strict=True):
            values = values @ kernel + bias
            values = jnp.tanh(values) if tanh else values
        return jnp.mean(jnp.square(values - inputs))

    def decompose(weights: Any, inputs: Any, start: Any) -> Any:
        point, unravel = ravel_pytree(weights)
        gradient = jax.grad(lambda vector: loss(unravel(vector), inputs))
        if arguments.product == "linearize":
            _, matvec = jax.linearize(gradient, point)
        else:

            def matvec(vector: Any) -> Any:
                return jax.jvp(gradient, (point,), (vector,))[1]

        return tridiagonalise(matvec, start)

    inputs = [jnp.asarray(part) for part in problem.weights], *map(jnp.asarray, problem[-2:])
    projected = jax.jit(lambda *inputs: decompose(*inputs).J_small)
    first, seconds, matrix = protocol.time_calls(
        lambda: np.asarray(projected(*inputs)), arguments.repeats
    )
    basis = None
    if arguments.orthogonality:
        basis = np.asarray(jax.jit(lambda *inputs: decompose(*inputs).Q_tall)(*inputs))
    protocol.report(
        protocol.versions(["jax", "matfree"]),
        (first, seconds),
        rank,
        np.linalg.eigvalsh(matrix.astype("float64")),
        basis,
    )


if __name__ == "__main__":
    main()
