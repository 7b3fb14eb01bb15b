"""Compares a model's Hessian-vector products with differences of its gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_sfn import validation
from keras_sfn.backend import devices, graphs
from keras_sfn.curvature import differences, products, slopes, smooth_pieces, survey
from keras_sfn.curvature import report as report_lib
from keras_sfn.krylov.precision import epsilon
from keras_sfn.objective import batches, model_loss, parameter_space
from keras_sfn.objective import objective as objective_lib

# By the precision the layers compute in. The shortest step is relative to the size of a variable.
_FIRST_STEP = {"float64": 1e-7, "float32": 1e-4, "half": 1e-2}
_TOLERANCE = {"float64": 1e-6, "float32": 1e-2, "half": 3e-1}


def check_curvature(
    model: keras.Model,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    training: bool = True,
    num_directions: int = 2,
    tolerance: float | None = None,
    hvp_mode: str = "auto",
    seed: int = 0,
) -> report_lib.CurvatureReport:
    """Compares products with the Hessian of a model's loss with differences of its gradient.

    For random directions v, H v as the optimizers compute it against Ridders' extrapolation of
    (g(x + h v) - g(x - h v)) / 2h, variable by variable. The steps h are relative to the size of
    each variable and chosen for the dtype. Where the network has kinks (ReLU, max-pooling) the
    differences stay on the smooth piece at hand, so that a kink is not taken for an error. And the
    gradient itself against differences of the loss: it is another where gradients pass through
    rounding or are reversed. The model is not changed.

    Example:
    >>> report = keras_sfn.check_curvature(model, x[:32], y[:32])
    >>> print(report)
    >>> assert report

    Args:
        model: Compiled and built.
        x: One batch of inputs; a few rows are enough.
        y: Its targets.
        sample_weight: Weights of the rows, or None.
        training: Whether layers run in training mode.
        num_directions: Integer >= 1, how many random directions are compared.
        tolerance: Largest relative error that counts as right. Defaults to 1e-6 in float64, 1e-2 in
            float32 and 0.3 where layers compute in half precision.
        hvp_mode: As in `keras_sfn.SaddleFreeNewton`.
        seed: Integer, seeds the directions.

    Returns:
        A `CurvatureReport`: prints as a table, and is true where all is right.

    Raises:
        ValueError: An argument is out of range, the model is not compiled or built, or the parts of
            the batch differ in length.
        NotImplementedError: An op of the loss has no second derivative in TensorFlow.
        RuntimeError: A `tf.distribute` strategy with several replicas is in force.
    """
    devices.refuse_replicas("check_curvature")
    validation.integer_at_least("num_directions", num_directions, 1)
    validation.positive("tolerance", tolerance, optional=True)
    validation.integer_at_least("seed", seed, 0)
    validation.one_of("hvp_mode", hvp_mode, products.HVP_MODES)
    batch = model_loss.check_batch(model, x, y, sample_weight)
    space = parameter_space.ParameterSpace(model.trainable_variables)
    rows = batches.Batch(
        batch, lambda part: model_loss.batch_loss(model, *part, training=training), space
    )
    return compare(rows, hvp_mode, num_directions=num_directions, tolerance=tolerance, seed=seed)


def compare(
    rows: batches.Batch,
    hvp_mode: str = "auto",
    *,
    num_directions: int = 1,
    tolerance: float | None = None,
    seed: int = 0,
) -> report_lib.CurvatureReport:
    """Does what `check_curvature` does, for any loss; arguments that are not checked are its own.

    Args:
        rows: The batch that gives the loss.
        hvp_mode: See `check_curvature`.
        num_directions: See there.
        tolerance: See there.
        seed: See there.
    """
    space, objective = rows.space, rows.whole()
    mode = survey.survey(rows, hvp_mode).hvp_mode
    matvec = _product(objective, mode)
    validation.finite_loss(float(objective.loss(space.flatten(space.values()))))
    piece = smooth_pieces.SmoothPiece(rows.traced.concrete)
    point = space.flatten(space.values())
    gradient = _in_float64(piece.at(point), space.dtype)
    point = point.numpy().astype("float64")
    parts = _parts(space)
    scale = _scale(point, parts)
    precision = _precision(rows.traced.graph, space.dtype)
    tolerance = _TOLERANCE[precision] if tolerance is None else tolerance
    rng = np.random.default_rng(seed)

    found, expected, errors, directions = [], [], [], []
    for _ in range(num_directions):
        along = (scale * rng.normal(size=space.size)).astype(space.dtype).astype("float64")
        directions.append(along)
        found.append(matvec(along))
        line = functools.partial(_on_line, gradient, point, along)
        difference, error = differences.derivative(line, _FIRST_STEP[precision], parts)
        expected.append(difference)
        errors.append(error)
    checks = report_lib.judge(
        space.variables,
        parts,
        np.array(found),
        np.array(expected),
        np.array(errors),
        tolerance=tolerance,
        epsilon=epsilon(space.dtype),
        has_free_kinks=piece.has_free_kinks,
    )
    # Along the gradient too, where the loss changes most.
    steepest = scale**2 * gradient(point)
    norm = np.linalg.norm(steepest)
    if 0 < norm < np.inf:
        directions.append(steepest * np.linalg.norm(scale) / norm)
    slope = report_lib.GradientCheck(verdict=report_lib.UNRESOLVED)
    if precision != "half":
        kinks = piece.num_kinks > 0 or piece.has_free_kinks
        slope = slopes.check(rows, directions, _FIRST_STEP[precision], tolerance, has_kinks=kinks)
    return report_lib.CurvatureReport(checks, tolerance, piece.num_kinks, slope)


def _product(objective: objective_lib.Loss, mode: str) -> Callable[[np.ndarray], np.ndarray]:
    """The product at the current point, compiled without XLA, as the gradient is.

    XLA draws other dropout masks for the same seed.
    """
    space = objective.space

    def product(vector: tf.Tensor) -> tf.Tensor:
        point = space.flatten(space.values())
        return products.hessian_vector_product(objective, point, mode)(vector)

    spec = tf.TensorSpec((space.size,), space.dtype)
    return _in_float64(graphs.concrete(product, spec), space.dtype)


def _in_float64(
    function: Callable[[tf.Tensor], tf.Tensor], dtype: str
) -> Callable[[np.ndarray], np.ndarray]:
    return lambda point: function(tf.constant(point, dtype)).numpy().astype("float64")


def _on_line(
    function: Callable[[np.ndarray], np.ndarray],
    point: np.ndarray,
    along: np.ndarray,
    distance: float,
) -> np.ndarray:
    return function(point + distance * along)


def _precision(graph: Any, dtype: str) -> str:
    """Returns a key of `_TOLERANCE`: layers may compute in less than what variables are held in."""
    dtypes = {tensor.dtype for op in graph.get_operations() for tensor in op.outputs}
    return "half" if dtypes & {tf.float16, tf.bfloat16} else dtype


def _parts(space: parameter_space.ParameterSpace) -> list[slice]:
    sizes = [int(np.prod(variable.shape)) for variable in space.variables]
    return [slice(end - size, end) for end, size in zip(np.cumsum(sizes), sizes, strict=True)]


def _scale(point: np.ndarray, parts: list[slice]) -> np.ndarray:
    """The root mean square of each variable; of all, where a variable is smaller (zero biases)."""
    typical = np.sqrt(np.mean(point**2)) or 1.0
    scale = np.empty_like(point)
    for part in parts:
        scale[part] = max(np.sqrt(np.mean(point[part] ** 2)), typical)
    return scale
