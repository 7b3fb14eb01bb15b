"""Samples of a Gaussian whose covariance is the Gauss-Newton matrix of a loss.

With outputs y(x) of the model and H_y the Hessian of the loss in them, the Gauss-Newton matrix is
J' H_y J. For a random vector u of zero mean and covariance H_y, one reverse pass gives J' u, whose
covariance is that matrix. Of H_y the diagonal is taken, by its product with a vector of random
signs: exact where the loss is a sum over outputs (squared errors, binary cross-entropy).

Reference: Bekas, Kokiopoulou and Saad, An estimator for the diagonal of a matrix, Applied Numerical
Mathematics 57 (2007), for the product with random signs.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import traced


class NoOutputsError(ValueError):
    """The loss does not depend on outputs that depend on the parameters."""

    def __init__(self) -> None:
        super().__init__(
            "Preconditioned directions need a loss of the outputs of the model "
            "(`compile(loss=...)` and `fit`), from whose curvature the approximation is made. "
            "Received a loss that does not depend on such outputs. Use an integer "
            "`krylov_dimension`."
        )


def sample(
    objective: objective_lib.Objective, parameters: Sequence[tf.Tensor], seed: tf.Tensor
) -> tf.Tensor:
    """Returns one sample at a point, shape (n,); zero where it would not be finite.

    Args:
        objective: The loss; its outputs are the model's.
        parameters: One tensor a variable.
        seed: Shape (2,) integers.

    Raises:
        NoOutputsError: The loss does not depend on outputs that depend on the parameters.
    """
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(parameters)
        with tf.GradientTape(watch_accessed_variables=False) as of_loss:
            of_loss.watch(parameters)
            evaluation = objective.evaluate(parameters)
        outputs = traced.floating(evaluation.outputs)
        slopes = of_loss.gradient(evaluation.loss, outputs) if outputs else []
    used = [
        (output, slope) for output, slope in zip(outputs, slopes, strict=True) if slope is not None
    ]
    if not used:
        raise NoOutputsError
    outputs, slopes = [list(part) for part in zip(*used, strict=True)]
    signs = [_signs(output, seed, 2 * index) for index, output in enumerate(outputs)]
    products = tape.gradient(
        slopes, outputs, signs, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    noise = [
        tf.sqrt(tf.maximum(sign * product, 0)) * _signs(sign, seed, 2 * index + 1)
        for index, (sign, product) in enumerate(zip(signs, products, strict=True))
    ]
    gradients = tape.gradient(outputs, parameters, noise)
    if all(gradient is None for gradient in gradients):
        raise NoOutputsError
    flat = objective.joined(gradients, parameters)
    return tf.where(tf.reduce_all(tf.math.is_finite(flat)), flat, 0)


def signs(like: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns a tensor of random signs, 1 and -1.

    Args:
        like: Of the shape and dtype that are wanted.
        seed: Shape (2,) integers.
    """
    # The algorithm by name: for what TensorFlow selects XLA takes a hundred times as long.
    words = tf.random.stateless_uniform(tf.shape(like), seed, None, None, tf.int32, alg="philox")
    one = tf.ones_like(like)
    return tf.where(words < 0, -one, one)


def _signs(like: tf.Tensor, seed: tf.Tensor, index: int) -> tf.Tensor:
    return signs(like, seed + tf.constant([0, index], seed.dtype))
