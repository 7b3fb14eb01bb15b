"""The Hessian of a loss as an operator: products, and for small models the dense matrix."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from absl import logging

from keras_sfn.curvature import differentiability
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import parameter_space

HVP_MODES = ("auto", "forward_over_reverse", "reverse_over_reverse")

# What tracing raises where an op has no forward-mode rule: loops (Keras's recurrent layers) give
# TypeError, ValueError or AssertionError, unregistered ops LookupError, and the sparse gradient of
# a gather inside an inner tape AttributeError.
_NO_FORWARD_RULE = (
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
)


def resolve_mode(mode: str, has_loops: bool, synchronized: bool = False) -> str:
    """Decides `"auto"` where the traced loss settles it; else returns `mode`.

    Forward mode through loops and branches fails, some of it only when XLA compiles the program.

    Args:
        mode: One of `HVP_MODES`.
        has_loops: Whether the loss has loops or branches.
        synchronized: Whether layers sum over replicas, which forward mode does not see.

    Raises:
        NotImplementedError: Forward mode is asked for where it would be wrong.
    """
    if synchronized:
        if mode == "forward_over_reverse":
            raise NotImplementedError(
                "`hvp_mode` cannot be 'forward_over_reverse' where layers sum over replicas "
                "(synchronized=True), or may do so in a hand-written loop: TensorFlow leaves the "
                "other replicas out of the derivative. Received: hvp_mode='forward_over_reverse'. "
                "Use 'auto' or 'reverse_over_reverse'."
            )
        _log_reverse("layers sum over replicas")
        return "reverse_over_reverse"
    if mode == "auto" and has_loops:
        _log_reverse("the loss has loops or branches")
        return "reverse_over_reverse"
    return mode


def hessian_vector_product(
    objective: objective_lib.Summed, point: parameter_space.Point, mode: str = "auto"
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns v -> H v with H the Hessian of `objective` at `point`.

    `"forward_over_reverse"` is the derivative of the gradient along v, about twice the cost of a
    gradient. `"reverse_over_reverse"` is the gradient of g(x)' v, equal to rounding because H is
    symmetric; it also passes through loops that have no forward-mode rule. `"auto"` tries the
    first while tracing and falls back to the second, with one log line.

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


def dense_mode(mode: str, jit: bool) -> str:
    """Returns how the products of a dense Hessian are taken.

    All of them are at one point. In a loop, XLA computes once what does not depend on the vector:
    of reverse mode all but one reverse pass. On two cores a product of a residual's loss in float64
    costs 0.85 gradients so, and 1.26 in forward mode; of a classifier's 0.69 and 0.83.

    Args:
        mode: One of `HVP_MODES`; what is asked for stays.
        jit: Whether XLA compiles the loop.
    """
    return "reverse_over_reverse" if jit and mode == "auto" else mode


def dense(
    matvec: Callable[[tf.Tensor], tf.Tensor], size: int, dtype: str, jit: bool
) -> Callable[[], tf.Tensor]:
    """Returns () -> the matrix of `matvec`, shape (n, n), by n products in one compiled loop.

    The rows are those of H', and so of H where it is symmetric. One product is held at a time:
    blocks of 8 or 32 vectorised ones take 1.3 to 2.9 times as long under XLA, and their activations
    would be held together. Take `matvec` in the mode of `dense_mode`.

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
    if mode == "reverse_over_reverse":
        return _reverse_or_refuse(objective, parameters, vector)
    # A function of its own, so that a forward trace that fails leaves no ops behind in the graph
    # that is being built.
    forward = _forward_over_reverse
    if not tf.executing_eagerly():
        forward = tf.function(_forward_over_reverse, autograph=False)
    try:
        return forward(objective, parameters, vector)
    except _NO_FORWARD_RULE as error:
        _log_reverse(f"an op has no forward rule ({type(error).__name__})")
        return _reverse_or_refuse(objective, parameters, vector)


def _reverse_or_refuse(
    objective: objective_lib.Objective, parameters: list[tf.Tensor], vector: tf.Tensor
) -> tf.Tensor:
    try:
        return _reverse_over_reverse(objective, parameters, vector)
    except LookupError as error:
        differentiability.refuse_missing(objective, error)


def _log_reverse(reason: str) -> None:
    message = "Hessian-vector products in reverse-over-reverse mode: %s."
    logging.log_first_n(logging.INFO, message, 1, reason)


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
