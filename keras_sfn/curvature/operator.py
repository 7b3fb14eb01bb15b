"""The Hessian of a loss as an operator: `HessianOperator`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_sfn import validation
from keras_sfn.backend import devices
from keras_sfn.curvature import check, products, scipy_operator, spectrum_checks, survey
from keras_sfn.curvature import report as report_lib
from keras_sfn.objective import batches, model_loss, parameter_space

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
        validation.one_of("hvp_mode", hvp_mode, products.HVP_MODES)
        validation.one_of("jit_compile", jit_compile, (True, False, "auto"))
        loss_fn = getattr(loss_fn, "python_function", loss_fn)
        space = parameter_space.ParameterSpace(variables)
        batch = batches.of_function(loss_fn, space)
        surveyed = survey.survey(batch, hvp_mode, jit_compile)
        mode, jit = surveyed.hvp_mode, surveyed.jit_compile
        objective = batch.whole()
        spec = tf.TensorSpec((space.size,), space.dtype)
        space.in_place = jit

        def product(vector: tf.Tensor) -> tf.Tensor:
            return products.hessian_vector_product(objective, space.values(), mode)(vector)

        def block(rows: tf.Tensor) -> tf.Tensor:
            return tf.map_fn(product, rows, parallel_iterations=1)

        def compiled(function: Callable[..., Any], *signature: tf.TensorSpec) -> Callable[..., Any]:
            return tf.function(
                function, input_signature=signature, autograph=False, jit_compile=jit
            )

        self.shape = (space.size, space.size)
        self.dtype = space.dtype
        self._loss = compiled(lambda: objective.loss(space.values()))
        self._gradient = compiled(lambda: objective.gradient(space.values()))
        self._product = compiled(product, spec)
        self._products = compiled(block, tf.TensorSpec((_BLOCK, space.size), space.dtype))
        self._check: Callable[[], report_lib.CurvatureReport] = lambda: check.compare(batch, mode)
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

    @functools.cached_property
    def curvature_report(self) -> report_lib.CurvatureReport:
        """What `check_curvature` finds with one direction where the variables are when first asked.

        True where the products are right. It costs some thirty gradients once.
        """
        return self._check()

    def to_scipy(self) -> Any:
        """Returns a `scipy.sparse.linalg.LinearOperator` with these products, symmetric.

        Its vectors are NumPy arrays of the operator's dtype; others are cast.

        Raises:
            ImportError: SciPy is not installed.
        """
        return scipy_operator.linear_operator(self.matvec, self.shape, self.dtype)

    def to_dense(self) -> tf.Tensor:
        """Returns the matrix, shape (n, n), symmetric to rounding.

        Costs n products, made in blocks.

        Raises:
            MemoryError: The matrix would not fit into half of the machine's memory.
        """
        size = self.shape[0]
        spectrum_checks.check_memory(
            size * size,
            self.dtype,
            f"The dense Hessian of n = {size} parameters",
            "Use `matvec`, or fewer variables.",
        )
        blocks = [
            self._products(tf.one_hot(tf.range(start, start + _BLOCK), size, dtype=self.dtype))
            for start in range(0, size, _BLOCK)
        ]
        return tf.concat(blocks, axis=0)[:size]


def check_operator(hessian: Any) -> None:
    """Raises unless `hessian` is a `HessianOperator`.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(hessian, HessianOperator):
        raise TypeError(
            "`hessian` must be a `keras_sfn.HessianOperator`. Received: a "
            f"{type(hessian).__name__}. Of a compiled model make one by "
            "`keras_sfn.HessianOperator.from_model(model, x, y)`."
        )
