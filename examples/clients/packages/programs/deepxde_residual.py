"""DeepXDE on its TensorFlow backend: the residual of Poisson's equation.

DeepXDE calls `apply_gradients` in a loop of its own, and takes the residual by `tf.gradients`.
`train_by_minimize` puts `minimize` in the place of its train step.
"""

from __future__ import annotations

import os
from typing import Any

os.environ["DDE_BACKEND"] = "tensorflow"

import deepxde
import keras
import numpy as np
import tensorflow as tf

import keras_sfn

HOW = "with an override of `train_step`"


def train_by_minimize(model: Any, optimizer: keras.optimizers.Optimizer) -> None:
    """Has a compiled model of DeepXDE train by `optimizer.minimize`.

    Args:
        model: A `deepxde.Model`, compiled with this optimizer.
        optimizer: One of `keras_sfn`.
    """

    @tf.function
    def train_step(inputs: tf.Tensor, targets: Any, auxiliary_vars: Any) -> None:
        def loss_fn() -> tf.Tensor:
            losses_of = model.outputs_losses_train.python_function
            return tf.reduce_sum(losses_of(inputs, targets, auxiliary_vars)[1])

        optimizer.minimize(
            loss_fn, model.net.trainable_variables + model.external_trainable_variables
        )

    model.train_step = train_step


def losses(optimizer: str) -> dict[str, tuple[float, float]]:
    """Solves -u'' = pi^2 sin(pi x) on (-1, 1) with u = 0 at the ends."""
    keras.utils.set_random_seed(0)
    deepxde.config.set_random_seed(0)
    geometry = deepxde.geometry.Interval(-1, 1)

    def residual(x: tf.Tensor, u: tf.Tensor) -> tf.Tensor:
        return -deepxde.grad.hessian(u, x) - np.pi**2 * tf.sin(np.pi * x)

    ends = deepxde.icbc.DirichletBC(geometry, lambda x: 0.0, lambda x, on_boundary: on_boundary)
    problem = deepxde.data.PDE(geometry, residual, ends, num_domain=64, num_boundary=2)
    model = deepxde.Model(problem, deepxde.nn.FNN([1, 20, 20, 1], "tanh", "Glorot uniform"))
    chosen = keras.optimizers.get(optimizer)
    model.compile(chosen)
    if isinstance(chosen, keras_sfn.SaddleFreeNewton):
        train_by_minimize(model, chosen)
    history, _ = model.train(iterations=100, display_every=100, verbose=0)
    found = [float(np.sum(loss)) for loss in history.loss_train]
    return {"DeepXDE, `PDE`": (found[0], found[-1])}
