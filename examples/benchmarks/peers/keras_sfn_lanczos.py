"""keras_sfn's Lanczos as the optimizer runs it: product and basis in one program of XLA's.

Run by `peers.py`, in the same environment as it.
"""

from __future__ import annotations

import keras
import numpy as np
import peer_protocol
import tensorflow as tf

import keras_sfn
from keras_sfn import hessian, vectors
from keras_sfn import objective as objective_lib
from keras_sfn.lanczos import Krylov, build


def build_objective(problem: peer_protocol.Problem) -> objective_lib.Objective:
    """Returns the loss of the problem as a step sees it."""
    model = keras.Sequential([keras.Input(problem.inputs.shape[1:])])
    for bias, tanh in zip(problem.biases, problem.tanh, strict=True):
        model.add(keras.layers.Dense(len(bias), activation="tanh" if tanh else None))
    model.set_weights(problem.weights)
    inputs = tf.constant(problem.inputs)

    def loss() -> tuple[tf.Tensor, None]:
        return tf.reduce_mean(tf.square(model(inputs, training=True) - inputs)), None

    space = vectors.ParameterSpace(model.trainable_variables)
    space.in_place = True  # XLA compiles all that follows.
    return objective_lib.Objective(loss, space)


def main() -> None:
    """Reads the problem, times, reports."""
    arguments = peer_protocol.parser(__doc__).parse_args()
    problem = peer_protocol.read_problem(arguments.problem)
    rank = arguments.krylov_dimension
    objective = build_objective(problem)
    point, start = tf.constant(problem.point), tf.constant(problem.start)

    def krylov(point: tf.Tensor, start: tf.Tensor) -> Krylov:
        matvec = hessian.hessian_vector_product(objective, point)
        return build(matvec, start, rank, "partial")

    @tf.function(jit_compile=True, autograph=False)
    def projected(point: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        return krylov(point, start).projected

    @tf.function(jit_compile=True, autograph=False)
    def basis(point: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        return tf.concat(krylov(point, start).blocks, axis=0)

    first, seconds, matrix = peer_protocol.time_calls(
        lambda: projected(point, start).numpy(), arguments.repeats
    )
    peer_protocol.report(
        f"{peer_protocol.versions(['tensorflow', 'keras'])}, keras_sfn {keras_sfn.__version__}",
        (first, seconds),
        rank,
        np.linalg.eigvalsh(matrix.astype("float64")),
        basis(point, start).numpy() if arguments.orthogonality else None,
    )


if __name__ == "__main__":
    main()
