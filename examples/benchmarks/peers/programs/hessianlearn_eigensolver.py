"""The randomised eigensolver of github.com/tomoleary/hessianlearn, on its blocked products.

Run by `peers/compare.py`, in an environment of its own. The repository has no Lanczos. Its
eigensolver takes `rank` random vectors, multiplies them by H, and projects H on what comes out,
which is 2 rank products: the rank is half of --krylov_dimension, so that all have the same number
of products. What it finds with them differs, and so do its extreme Ritz values.
"""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[3]))

import numpy as np
import tensorflow as tf

from benchmarks.peers import protocol
from benchmarks.peers.programs import legacy_network


def main() -> None:
    """Reads the problem, times, reports."""
    parser = protocol.parser(__doc__)
    parser.add_argument("--repository", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    problem = protocol.read_problem(arguments.problem)
    rank = arguments.krylov_dimension // 2
    # Importing it turns eager execution off: its graphs have placeholders.
    hessianlearn = legacy_network.import_from(arguments.repository, "hessianlearn")
    network = legacy_network.build_network(problem.inputs, legacy_network.layers_of(problem))
    training = hessianlearn.AutoencoderProblem(network)
    feed = {training.x: problem.inputs}
    with tf.compat.v1.Session() as session:
        legacy_network.assign(session, training, problem.point)
        hessian = hessianlearn.Hessian(problem=training, sess=session)

        def run() -> tuple[np.ndarray, np.ndarray]:
            return hessianlearn.randomized_eigensolver(
                lambda columns: hessian(columns, feed), training.dimension, rank, p=0
            )

        first, seconds, (ritz_values, basis) = protocol.time_calls(run, arguments.repeats)
    protocol.report(
        protocol.versions(["tensorflow", "tf_keras", "scipy"]),
        (first, seconds),
        2 * rank,
        ritz_values,
        basis.T if arguments.orthogonality else None,
    )


if __name__ == "__main__":
    main()
