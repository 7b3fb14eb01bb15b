"""The Hessian of a loss as an operator: products, and for small models the dense matrix."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_sfn import devices, differentiability, graphs, model_loss, validation, vectors
from keras_sfn import objective as objective_lib

HVP_MODES = ("auto", "forward_over_reverse", "reverse_over_reverse")

# What tracing raises where an op has no forward-mode rule: loops (Keras's recurrent layers) give
# TypeError, ValueError or AssertionError, unregistered ops LookupError.
_NO_FORWARD_RULE = (TypeError, ValueError, LookupError, AssertionError, NotImplementedError)


# Rows of the dense matrix that one call of the compiled function computes.
_BLOCK = 64


class HessianOperator:
    """The Hessian H of a loss at the current values of the variables, by products.

    The loss is frozen as in a training step: dropout seeds and moving statistics keep the values
    they have, nothing in the model changes, and the same call twice gives the same numbers. The
    products are compiled at the first call and follow the variables when these change.

    Coordinates run over `variables` in turn, each raveled in C order.

    Example:
    >>> hessian = keras_sfn.HessianOperator.from_model(model, x, y)
    >>> product = hessian.matvec(hessian.gradient())

    Args:
        loss_fn: Callable without arguments that returns a scalar loss and reads `variables`.
        variables: `keras.Variable` objects with n coordinates together.
        hvp_mode: As in `keras_sfn.SaddleFreeNewton`.
        jit_compile: As in `keras_sfn.SaddleFreeNewton`.

    Raises:
        ValueError: The loss is no finite real scalar, does not depend on `variables`, or is not the
            same function at every evaluation; or an option is unknown.
        NotImplementedError: An op of the loss has no right second derivative.
        TypeError: A variable is not a `keras.Variable` of a real floating dtype.
        RuntimeError: A `tf.distribute` strategy with several replicas is in force.

    Attributes:
        shape: (n, n).
        dtype: Name of the dtype of all results: float64 if a variable has it, else float32.
    """

    def __init__(
        self,
        loss_fn: Callable[[], tf.Tensor],
        variables: Sequence[keras.Variable],
        *,
        hvp_mode: str = "auto",
        jit_compile: bool | str = "auto",
    ) -> None:
        devices.refuse_replicas("HessianOperator")
        validation.one_of("hvp_mode", hvp_mode, HVP_MODES)
        validation.one_of("jit_compile", jit_compile, (True, False, "auto"))
        loss_fn = getattr(loss_fn, "python_function", loss_fn)
        space = vectors.ParameterSpace(variables)
        objective = objective_lib.Objective(lambda: (loss_fn(), None), space)
        spec = tf.TensorSpec((space.size,), space.dtype)
        ops = differentiability.examine(objective)
        jit = devices.jit_compile(jit_compile, ops)
        mode = resolve_mode(hvp_mode, ops)

        space.in_place = jit

        def product(vector: tf.Tensor) -> tf.Tensor:
            return hessian_vector_product(objective, space.values(), mode)(vector)

        def compiled(function: Callable[..., Any], *signature: tf.TensorSpec) -> Callable[..., Any]:
            return tf.function(
                function, input_signature=signature, autograph=False, jit_compile=jit
            )

        self.shape = (space.size, space.size)
        self.dtype = space.dtype
        self._loss = compiled(lambda: objective.loss(space.values()))
        self._gradient = compiled(lambda: objective.gradient(space.values()))
        self._product = compiled(product, spec)
        block = tf.TensorSpec((_BLOCK, space.size), space.dtype)
        self._products = compiled(lambda rows: tf.map_fn(product, rows), block)
        validation.finite_loss(float(self.loss()))

    @classmethod
    def from_model(
        cls,
        model: keras.Model,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        training: bool = True,
        **options: Any,
    ) -> HessianOperator:
        """Returns the Hessian of a compiled model's loss on one batch.

        Args:
            model: Compiled and built.
            x: One batch of inputs, as `fit` takes them.
            y: Its targets.
            sample_weight: Weights of the rows, or None.
            training: Whether layers run in training mode (dropout, batch statistics).
            **options: `hvp_mode` and `jit_compile`.

        Raises:
            ValueError: The model is not compiled or not built, or the parts of the batch differ in
                length.
        """
        batch = model_loss.check_batch(model, x, y, sample_weight)
        loss_fn = model_loss.batch_loss(model, *batch, training=training)
        return cls(lambda: loss_fn()[0], model.trainable_variables, **options)

    def loss(self) -> tf.Tensor:
        """Returns the scalar loss."""
        return self._loss()

    def gradient(self) -> tf.Tensor:
        """Returns the gradient, shape (n,)."""
        return self._gradient()

    def matvec(self, v: Any) -> tf.Tensor:
        """Returns H v, shape (n,).

        Args:
            v: Array or tensor of shape (n,) in the operator's dtype.

        Raises:
            ValueError: `v` has another shape or dtype.
        """
        vector = tf.convert_to_tensor(v)
        expected = (self.shape[0],)
        if tuple(vector.shape) != expected or vector.dtype != self.dtype:
            raise ValueError(
                f"`v` must have shape {expected} and dtype {self.dtype}. Received: shape "
                f"{tuple(vector.shape)}, dtype {vector.dtype.name}. The coordinates are those of "
                f"the variables in turn; cast with `tf.cast(v, {self.dtype!r})`."
            )
        return self._product(vector)

    def to_dense(self) -> tf.Tensor:
        """Returns the matrix, shape (n, n), symmetric to rounding.

        Costs n products, made in blocks.

        Raises:
            MemoryError: The matrix would not fit into half of the machine's memory.
        """
        size = self.shape[0]
        wanted = size * size * np.dtype(self.dtype).itemsize
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        if wanted > available:
            raise MemoryError(
                f"The dense Hessian of n = {size} parameters takes {wanted} bytes, more than half "
                f"of this machine's memory ({available}). Use `matvec`, or fewer variables."
            )
        blocks = [
            self._products(tf.one_hot(tf.range(start, start + _BLOCK), size, dtype=self.dtype))
            for start in range(0, size, _BLOCK)
        ]
        return tf.concat(blocks, axis=0)[:size]


def resolve_mode(mode: str, ops: frozenset[str], synchronized: bool = False) -> str:
    """Decides `"auto"` where the ops of the traced loss settle it; else returns `mode`.

    Forward mode through loops and branches fails, some of it only when XLA compiles the program.

    Args:
        mode: One of `HVP_MODES`.
        ops: Types of the ops of the loss.
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
    if mode == "auto" and ops & graphs.CONTROL_FLOW:
        _log_reverse("the loss has loops or branches")
        return "reverse_over_reverse"
    return mode


def hessian_vector_product(
    objective: objective_lib.Loss, point: vectors.Point, mode: str = "auto"
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


def dense(
    matvec: Callable[[tf.Tensor], tf.Tensor], size: int, dtype: str, jit: bool
) -> Callable[[], tf.Tensor]:
    """Returns () -> the matrix of `matvec`, shape (n, n), by n products in one compiled loop.

    The rows are those of H', and so of H where it is symmetric. One product is held at a time: as
    fast under XLA as blocks of 16 or 64 vectorised ones, whose activations would be held together.

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
