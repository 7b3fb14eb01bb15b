"""The TensorFlow 2 Lanczos of github.com/google/spectral-density, in double precision.

Run by `peers/compare.py`, in an environment of its own. `--product=own` is its entry point for a
model, which traces the product anew each time; `--product=compiled` gives its Lanczos loop a
product that XLA compiled once, the fastest that the loop can be given: it writes variables and
reads numbers back at each step, so that it cannot be compiled itself.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[3]))

import numpy as np
import tensorflow as tf

from benchmarks.peers import protocol
from benchmarks.peers.programs import legacy_network


def mean_squared_error(model: Any, batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """Returns the loss of a batch of inputs and targets."""
    return tf.reduce_mean(tf.square(model(batch[0]) - batch[1]))


def compiled_product(
    model: Any, batch: tuple[tf.Tensor, tf.Tensor], lists: Any
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns v -> H v on columns, forward over reverse as the repository's, compiled by XLA."""
    variables = model.trainable_variables

    @tf.function(jit_compile=True, autograph=False)
    def product(column: tf.Tensor) -> tf.Tensor:
        tangents = lists.vector_to_tensor_list(column, variables)
        with tf.autodiff.ForwardAccumulator(variables, tangents) as accumulator:
            with tf.GradientTape() as tape:
                loss = mean_squared_error(model, batch)
            gradients = tape.gradient(loss, variables)
        return lists.tensor_list_to_vector(accumulator.jvp(gradients))

    return product


def main() -> None:
    """Reads the problem, times, reports."""
    parser = protocol.parser(__doc__)
    parser.add_argument("--product", choices=("own", "compiled"), required=True)
    parser.add_argument("--repository", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    problem = protocol.read_problem(arguments.problem)
    rank = arguments.krylov_dimension
    folder = arguments.repository / "tf2"
    algorithm = legacy_network.import_from(folder, "lanczos_algorithm")
    lists = legacy_network.import_from(folder, "tensor_list_util")
    model = legacy_network.build_network(problem.inputs, legacy_network.layers_of(problem))
    model.set_weights(problem.weights)
    batch = tf.constant(problem.inputs), tf.constant(problem.inputs)
    data = tf.data.Dataset.from_tensors(batch)
    product = compiled_product(model, batch, lists)

    def run() -> tuple[np.ndarray, np.ndarray]:
        if arguments.product == "own":
            basis, matrix = algorithm.approximate_hessian(model, mean_squared_error, data, rank)
        else:
            basis, matrix = algorithm.lanczos_algorithm(product, problem.start.size, rank)
        return basis, matrix.numpy()

    # It draws its start itself; here it gets that of all others.
    start = tf.constant(problem.start[:, None], tf.float64)
    with mock.patch.object(algorithm.tf.random, "uniform", return_value=start):
        first, seconds, (basis, matrix) = protocol.time_calls(run, arguments.repeats)
    protocol.report(
        protocol.versions(["tensorflow", "tf_keras"]),
        (first, seconds),
        rank,
        np.linalg.eigvalsh(matrix),
        basis.numpy().T if arguments.orthogonality else None,
    )


if __name__ == "__main__":
    main()
