"""Samples of a Gaussian whose covariance is the Gauss-Newton matrix of a loss.

With tensors z that a loss is a function of (`objective.cut`) and H_z its Hessian in them, the
Gauss-Newton matrix is J' H_z J. For a random vector u of zero mean and covariance H_z, one reverse
pass gives J' u, whose covariance is that matrix. Of H_z the diagonal is taken, by its product with
a vector of random signs: exact where the loss is a sum over z (squared errors, binary
cross-entropy). Where that is negative it is left out.

Reference: Bekas, Kokiopoulou and Saad, An estimator for the diagonal of a matrix, Applied Numerical
Mathematics 57 (2007), for the product with random signs.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from keras_sfn.objective import cut as cut_lib
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import rows

# Beyond the seeds of a training's samples.
_SEEDS_A_REPLICA = 2**24


def sample(
    objective: objective_lib.Objective, parameters: Sequence[tf.Tensor], seed: tf.Tensor
) -> tf.Tensor:
    """Returns one sample at a point, shape (n,), or what a part of the batch adds to it.

    Called while a graph is traced, in which z is found. The signs belong to the rows: parts add up
    to the sample that all rows together give.

    Args:
        objective: The loss.
        parameters: One tensor a variable.
        seed: Shape (2,) integers.

    Raises:
        ValueError: There is no z: the loss is a function of the parameters alone.
        NotImplementedError: A function that the loss calls, as forward mode makes them, cannot be
            differentiated twice in a graph.
    """
    # Tensors of the graph at hand, from which the walk through it starts.
    parameters = [tf.identity(parameter) for parameter in parameters]
    evaluation = objective.evaluate(parameters)
    cut = cut_lib.find(parameters, evaluation.loss, cut_lib.floating(evaluation.outputs))
    if not cut:
        raise ValueError(
            "Preconditioned directions need a loss of rows, from whose curvature the approximation "
            "is made. Received a loss of the parameters alone. Use an integer `krylov_dimension`."
        )
    # Partial derivatives: one of these tensors may be made from another.
    zero = tf.UnconnectedGradients.ZERO
    slopes = tf.gradients(evaluation.loss, cut, stop_gradients=cut, unconnected_gradients=zero)
    place = objective.place
    probes = [_signs(tensor, seed, 2 * index, place) for index, tensor in enumerate(cut)]
    try:
        products = tf.gradients(slopes, cut, probes, stop_gradients=cut, unconnected_gradients=zero)
    except LookupError as error:
        raise NotImplementedError(
            "Directions are preconditioned by the curvature of the loss in its residuals, which "
            "TensorFlow cannot give through nested forward mode (`ForwardAccumulator`). "
            f"Received: {error}. Take the derivatives of the network by `tf.GradientTape`, or set "
            "`krylov_dimension` to a number."
        ) from error
    noise = [
        tf.sqrt(tf.maximum(probe * product, 0)) * _signs(probe, seed, 2 * index + 1, place)
        for index, (probe, product) in enumerate(zip(probes, products, strict=True))
    ]
    gradients = tf.gradients(cut, parameters, noise, unconnected_gradients=zero)
    flat = objective.space.flatten(gradients)
    # A sum over parts multiplies what is linear in the loss by their weights.
    return flat if place is None else flat / tf.sqrt(tf.cast(place.weight, flat.dtype))


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


def _signs(like: tf.Tensor, seed: tf.Tensor, index: int, place: rows.Place | None) -> tf.Tensor:
    """Returns the signs of the rows of a part of the batch, out of those of all rows."""
    seed = seed + tf.constant([0, index], seed.dtype)
    if place is None:
        return signs(like, seed)
    if place.total is None:
        offset = tf.stack([_SEEDS_A_REPLICA * place.before, 0])
        return signs(like, seed + tf.cast(offset, seed.dtype))
    # Rows are neighbours in memory, whatever an op has made of their other axes. Where a tensor is
    # not made of rows, its signs are at least those of no other part.
    size = tf.size(like)
    of_row = -(-size // tf.maximum(place.rows, 1))
    all_rows = signs(tf.zeros((place.total * of_row + size,), like.dtype), seed)
    return tf.reshape(tf.slice(all_rows, [place.before * of_row], [size]), tf.shape(like))
