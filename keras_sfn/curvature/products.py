"""The Hessian of a loss as an operator: products, and for small models the dense matrix."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_sfn.curvature import differentiability
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import parameter_space

HVP_MODES = ("auto", "forward_over_reverse", "reverse_over_reverse")


def resolve_mode(mode: str, has_forward_mode: bool = False, synchronized: bool = False) -> str:
    """Returns the mode that `"auto"` stands for; else `mode`.

    Reverse mode: on two cores its products take 0.7 to 1.0 times as long as those of forward mode
    (1.3 in a small net that XLA compiles), and are traced in a quarter to a half of the time. It
    passes loops and branches, through which forward mode fails. But TensorFlow's second derivatives
    of what nested `tf.autodiff.ForwardAccumulator`s compute are right in forward mode alone.

    Args:
        mode: One of `HVP_MODES`.
        has_forward_mode: Whether the loss uses forward mode itself, outside loops.
        synchronized: Whether layers sum over replicas, which forward mode does not see.

    Raises:
        NotImplementedError: Forward mode is asked for where it would be wrong.
    """
    if synchronized and mode == "forward_over_reverse":
        raise NotImplementedError(
            "`hvp_mode` cannot be 'forward_over_reverse' where layers sum over replicas "
            "(synchronized=True), or may do so in a hand-written loop: TensorFlow leaves the "
            "other replicas out of the derivative. Received: hvp_mode='forward_over_reverse'. "
            "Use 'auto' or 'reverse_over_reverse'."
        )
    if mode != "auto":
        return mode
    forward = has_forward_mode and not synchronized
    return "forward_over_reverse" if forward else "reverse_over_reverse"


def hessian_vector_product(
    objective: objective_lib.Summed, point: parameter_space.Point, mode: str = "auto"
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns v -> H v with H the Hessian of `objective` at `point`.

    `"reverse_over_reverse"` is the gradient of g(x)' v, equal to H v because H is symmetric.
    `"forward_over_reverse"` is the derivative of the gradient along v; it does not hold what the
    gradient was made of, and fails through loops. Both take two to three gradients' time.

    Args:
        objective: The function, frozen for the step.
        point: Where; one tensor a variable spares a loop around products the vector.
        mode: One of `HVP_MODES`.

    Returns:
        A callable from shape (n,) to shape (n,), linear in its argument.

    Raises:
        NotImplementedError: When the callable is traced, if an op has no second derivative.
    """
    parameters = objective.space.tensors(point)

    def product(vector: tf.Tensor) -> tf.Tensor:
        here = objective.space.tensors(parameters)
        return objective.over_parts(
            lambda part: _product(part, here, vector, mode), (objective.space.size,)
        )

    return product


def dense(
    matvec: Callable[[tf.Tensor], tf.Tensor], size: int, dtype: str, jit: bool
) -> Callable[[], tf.Tensor]:
    """Returns () -> the matrix of `matvec`, shape (n, n), by n products in one compiled loop.

    The rows are those of H', and so of H where it is symmetric. All products are at one point: of
    reverse mode XLA computes all but one reverse pass once. One product is held at a time: blocks
    of 8 or 32 vectorised ones take 1.3 to 2.9 times as long under XLA, and their activations would
    be held together.

    Args:
        matvec: v -> H v, on shape (n,).
        size: n.
        dtype: Of the vectors.
        jit: Whether XLA compiles the products; nothing else of a step with the whole Hessian is.
    """

    def block(rows: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(matvec, rows, parallel_iterations=1)

    def matrix() -> tf.Tensor:
        products = tf.function(block, autograph=False, jit_compile=True) if jit else block
        return products(tf.eye(size, dtype=dtype))

    return matrix


def _product(
    objective: objective_lib.Objective, parameters: list[tf.Tensor], vector: tf.Tensor, mode: str
) -> tf.Tensor:
    if mode == "forward_over_reverse":
        return _forward_over_reverse(objective, parameters, vector)
    try:
        return _reverse_over_reverse(objective, parameters, vector)
    except LookupError as error:
        differentiability.refuse_missing(objective, error)


def _forward_over_reverse(
    objective: objective_lib.Objective, parameters: list[tf.Tensor], vector: tf.Tensor
) -> tf.Tensor:
    space = objective.space
    tangents = space.unflatten(vector)
    with tf.autodiff.ForwardAccumulator(parameters, tangents) as accumulator:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(parameters)
            loss = objective.evaluate(parameters).loss
        gradients = tape.gradient(loss, parameters, unconnected_gradients="zero")
        # Sparse gradients (embeddings) must become dense while the accumulator still watches.
        gradients = [tf.convert_to_tensor(g) for g in gradients]
    return space.flatten(accumulator.jvp(gradients, unconnected_gradients="zero"))


def _reverse_over_reverse(
    objective: objective_lib.Objective, parameters: list[tf.Tensor], vector: tf.Tensor
) -> tf.Tensor:
    space = objective.space
    tangents = space.unflatten(vector)
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(parameters)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(parameters)
            loss = objective.evaluate(parameters).loss
        gradients = inner.gradient(loss, parameters, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(g) for g in gradients]
    products = outer.gradient(
        gradients, parameters, output_gradients=tangents, unconnected_gradients="zero"
    )
    return space.flatten(products)
