"""Hessian-vector products of a frozen objective."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from absl import logging

from keras_sfn import graphs
from keras_sfn import objective as objective_lib

HVP_MODES = ("auto", "forward_over_reverse", "reverse_over_reverse")

# What tracing raises where an op has no forward-mode rule: loops (Keras's recurrent layers) give
# TypeError, ValueError or AssertionError, unregistered ops LookupError.
_NO_FORWARD_RULE = (TypeError, ValueError, LookupError, AssertionError, NotImplementedError)


def resolve_mode(mode: str, ops: frozenset[str]) -> str:
    """Decides `"auto"` where the ops of the traced loss settle it; else returns `mode`.

    Forward mode through loops and branches fails, some of it only when XLA compiles the program.
    """
    if mode == "auto" and ops & graphs.CONTROL_FLOW:
        _log_reverse("the loss has loops or branches")
        return "reverse_over_reverse"
    return mode


def hessian_vector_product(
    objective: objective_lib.Objective, point: tf.Tensor, mode: str = "auto"
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns v -> H v with H the Hessian of `objective` at `point`.

    `"forward_over_reverse"` is the derivative of the gradient along v, about twice the cost of a
    gradient. `"reverse_over_reverse"` is the gradient of g(x)' v, equal to rounding because H is
    symmetric; it also passes through loops that have no forward-mode rule. `"auto"` tries the
    first while tracing and falls back to the second, with one log line.

    Args:
        objective: The function, frozen for the step.
        point: Shape (n,).
        mode: One of `HVP_MODES`.

    Returns:
        A callable from shape (n,) to shape (n,), linear in its argument.
    """
    if mode == "forward_over_reverse":
        return lambda vector: _forward_over_reverse(objective, point, vector)
    if mode == "reverse_over_reverse":
        return lambda vector: _reverse_over_reverse(objective, point, vector)

    def product(vector: tf.Tensor) -> tf.Tensor:
        # A function of its own, so that a forward trace that fails leaves no ops behind in the
        # graph that is being built.
        forward = _forward_over_reverse
        if not tf.executing_eagerly():
            forward = tf.function(_forward_over_reverse, autograph=False)
        try:
            return forward(objective, point, vector)
        except _NO_FORWARD_RULE as error:
            _log_reverse(f"an op has no forward rule ({type(error).__name__})")
            return _reverse_over_reverse(objective, point, vector)

    return product


def _log_reverse(reason: str) -> None:
    message = "Hessian-vector products in reverse-over-reverse mode: %s."
    logging.log_first_n(logging.INFO, message, 1, reason)


def _forward_over_reverse(
    objective: objective_lib.Objective, point: tf.Tensor, vector: tf.Tensor
) -> tf.Tensor:
    space = objective.space
    parameters, tangents = space.unflatten(point), space.unflatten(vector)
    with tf.autodiff.ForwardAccumulator(parameters, tangents) as accumulator:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(parameters)
            loss = objective.evaluate(parameters).loss
        gradients = tape.gradient(loss, parameters, unconnected_gradients="zero")
        # Sparse gradients (embeddings) must become dense while the accumulator still watches.
        gradients = [tf.convert_to_tensor(g) for g in gradients]
    return space.flatten(accumulator.jvp(gradients, unconnected_gradients="zero"))


def _reverse_over_reverse(
    objective: objective_lib.Objective, point: tf.Tensor, vector: tf.Tensor
) -> tf.Tensor:
    space = objective.space
    parameters, tangents = space.unflatten(point), space.unflatten(vector)
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
