"""Gradient norm and most negative curvature of a model on fixed rows, as training goes on."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_sfn


class CurvatureProbe:
    """Measures at the weights that the model has when it is called.

    Args:
        model: Compiled and built.
        inputs: Rows of the loss.
        targets: Theirs.
        steps: Lanczos steps from the gradient; one product each.
    """

    def __init__(self, model: keras.Model, inputs: Any, targets: Any, steps: int) -> None:
        hessian = keras_sfn.HessianOperator.from_model(model, inputs, targets)

        @tf.function(autograph=False)
        def measure() -> tuple[tf.Tensor, tf.Tensor]:
            gradient = hessian.gradient()
            small = keras_sfn.lanczos(hessian.matvec, gradient, steps).projected
            return tf.norm(gradient), small

        self._measure = measure

    def __call__(self) -> tuple[float, float]:
        """Returns the norm of the gradient and the lowest Ritz value; NaN where not finite."""
        norm, small = (np.asarray(part, "float64") for part in self._measure())
        if not np.isfinite(small).all():
            return float(norm), float("nan")
        return float(norm), float(np.linalg.eigvalsh(small)[0])
