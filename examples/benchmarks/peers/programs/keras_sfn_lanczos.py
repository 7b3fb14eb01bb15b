"""keras_sfn's Lanczos as the optimizer runs it: product and basis in one program of XLA's.

Run by `peers/compare.py`, in the same environment as it.
"""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[3]))

import keras
import numpy as np
import tensorflow as tf

import keras_sfn
from benchmarks.peers import protocol
from keras_sfn.curvature import products
from keras_sfn.krylov import lanczos
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import parameter_space


def build_objective(problem: protocol.Problem) -> objective_lib.Objective:
    """Returns the loss of the problem as a step sees it."""
    model = keras.Sequential([keras.Input(problem.inputs.shape[1:])])
    for bias, tanh in zip(problem.biases, problem.tanh, strict=True):
        model.add(keras.layers.Dense(len(bias), activation="tanh" if tanh else None))
    model.set_weights(problem.weights)
    inputs = tf.constant(problem.inputs)

    def loss() -> tuple[tf.Tensor, None]:
        return tf.reduce_mean(tf.square(model(inputs, training=True) - inputs)), None

    space = parameter_space.ParameterSpace(model.trainable_variables)
    space.in_place = True  # XLA compiles all that follows.
    return objective_lib.Objective(loss, space)


def main() -> None:
    """Reads the problem, times, reports."""
    arguments = protocol.parser(__doc__).parse_args()
    problem = protocol.read_problem(arguments.problem)
    rank = arguments.krylov_dimension
    objective = build_objective(problem)
    point, start = tf.constant(problem.point), tf.constant(problem.start)

    def krylov(point: tf.Tensor, start: tf.Tensor) -> lanczos.Krylov:
        matvec = products.hessian_vector_product(objective, point)
        return lanczos.tridiagonalise(matvec, start, rank, "partial")

    @tf.function(jit_compile=True, autograph=False)
    def projected(point: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        return krylov(point, start).projected

    @tf.function(jit_compile=True, autograph=False)
    def basis(point: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        return tf.concat(krylov(point, start).blocks, axis=0)

    first, seconds, matrix = protocol.time_calls(
        lambda: projected(point, start).numpy(), arguments.repeats
    )
    protocol.report(
        f"{protocol.versions(['tensorflow', 'keras'])}, keras_sfn {keras_sfn.__version__}",
        (first, seconds),
        rank,
        np.linalg.eigvalsh(matrix.astype("float64")),
        basis(point, start).numpy() if arguments.orthogonality else None,
    )


if __name__ == "__main__":
    main()
