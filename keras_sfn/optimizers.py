"""The Keras optimizers: hyper-parameters and configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_sfn import base_optimizer, hessian, validation
from keras_sfn import damping as damping_lib
from keras_sfn import step as step_lib

DEFAULT_DAMPING_GRID = (1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@keras.saving.register_keras_serializable(package="keras_sfn")
class SaddleFreeNewton(base_optimizer.NewtonOptimizer):
    """Saddle-free Newton method in a Krylov subspace.

    One step, on one batch:

        V           = Krylov basis of the Hessian H from the gradient g, and the previous step
        theta, U    = eigenpairs of V H V'
        step        = -learning_rate V' U (|theta| + damping)^-1 U' V g

    Directions of negative curvature are followed downhill, so saddle points repel where Newton's
    method is drawn to them. Products with H are exact; H is never formed. A step costs one
    gradient, `krylov_dimension` (+ 1) Hessian-vector products of about two gradients each, and one
    forward pass for each damping tried.

    Example:
    >>> model.compile(optimizer="saddle_free_newton", loss="mse")
    >>> model.fit(x, y, batch_size=1024, epochs=10)

    or in a hand-written loop:

    >>> optimizer = keras_sfn.SaddleFreeNewton()
    >>> loss = optimizer.minimize(lambda: loss_fn(y, model(x, training=True)),
    ...                           model.trainable_variables)

    Args:
        learning_rate: Float, `keras.optimizers.schedules.LearningRateSchedule` or callable; factor
            on the step. 1.0 is the full Newton-like step.
        krylov_dimension: Integer >= 1, Lanczos vectors a step (clipped to the number of
            parameters).
        damping: `"search"` looks along `damping_grid` for the lowest loss of the batch, at the
            first step (and after a rejection) over all of it, later to both sides of the last
            value; `"adaptive"` follows the reduction ratio (Levenberg-Marquardt); a float >= 0 is
            used as it is, in units of curvature. Under the first two a step that does not lower
            the loss of its batch is rejected and leaves the parameters.
        damping_grid: Positive floats, multiples of the largest |Ritz value|; only with
            `damping="search"`. Defaults to 10, 1, ... 1e-6.
        curvature_batch_size: Integer >= 1 or None. The Hessian is that of the first so many rows
            of the batch; loss and gradient always see all rows. Needs losses that are means over
            rows (Keras's default), and `fit`.
        micro_batch_size: Integer >= 1 or None. A batch with more rows is evaluated in slices of so
            many, and activations take the memory of one slice. The step is the same to rounding,
            but that BatchNormalization normalises each slice by its own statistics. Needs losses
            that are means over rows, and `fit`.
        inner_steps: Integer >= 1, steps taken in one subspace with the same Ritz values and a new
            gradient each.
        use_previous_step: Whether the last accepted step joins the subspace, at the cost of one
            more product.
        reorthogonalize: Whether each Lanczos vector is orthogonalised against all before it.
        hvp_mode: `"forward_over_reverse"`, `"reverse_over_reverse"`, or `"auto"`: the first where
            every op of the model allows it.
        max_step_norm: Float > 0 or None, the largest Euclidean norm of a step.
        jit_compile: Whether the step is compiled by XLA; `"auto"` decides by device and model.
        max_consecutive_rejections: Integer >= 1 or None. Training ends with an error when so many
            steps in a row were rejected because the loss, its gradient, a product or every
            candidate was not finite. Steps that merely would not lower the loss do not count: near
            a minimum they are normal. None goes on for ever.
        seed: Integer, seeds the random directions that follow a breakdown of the Krylov space.
        weight_decay: Float or None, decoupled weight decay as in Keras; not applied by a rejected
            step.
        use_ema: As in every Keras optimizer.
        ema_momentum: As in every Keras optimizer.
        ema_overwrite_frequency: As in every Keras optimizer.
        name: Name of the optimizer.

    Raises:
        ValueError: An argument is unknown, out of range, or contradicts another.

    Reference:
        Dauphin et al., 2014, https://arxiv.org/abs/1406.2572. Departures from its Algorithm 1 are
        listed, with the reasons, in the module `keras_sfn.step`.
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        krylov_dimension: int = 10,
        damping: str | float = "search",
        damping_grid: Sequence[float] | None = None,
        curvature_batch_size: int | None = None,
        micro_batch_size: int | None = None,
        inner_steps: int = 1,
        use_previous_step: bool = True,
        reorthogonalize: bool = True,
        hvp_mode: str = "auto",
        max_step_norm: float | None = None,
        jit_compile: bool | str = "auto",
        max_consecutive_rejections: int | None = 10,
        seed: int = 0,
        weight_decay: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        name: str = "saddle_free_newton",
        **kwargs: Any,
    ) -> None:
        validation.refuse_keras_options(kwargs)
        validation.integer_at_least("krylov_dimension", krylov_dimension, 1)
        validation.integer_at_least("inner_steps", inner_steps, 1)
        validation.integer_at_least("curvature_batch_size", curvature_batch_size, 1, optional=True)
        validation.integer_at_least(
            "max_consecutive_rejections", max_consecutive_rejections, 1, optional=True
        )
        validation.integer_at_least("micro_batch_size", micro_batch_size, 1, optional=True)
        validation.integer_at_least("seed", seed, 0)
        validation.positive("max_step_norm", max_step_norm, optional=True)
        validation.boolean("use_previous_step", use_previous_step)
        validation.boolean("reorthogonalize", reorthogonalize)
        validation.within("weight_decay", weight_decay, 0, math.inf, optional=True)
        validation.boolean("use_ema", use_ema)
        validation.within("ema_momentum", ema_momentum, 0, 1)
        validation.integer_at_least(
            "ema_overwrite_frequency", ema_overwrite_frequency, 1, optional=True
        )
        validation.one_of("hvp_mode", hvp_mode, hessian.HVP_MODES)
        validation.one_of("jit_compile", jit_compile, (True, False, "auto"))
        policy = _damping_policy(damping, damping_grid)
        super().__init__(
            learning_rate=validation.learning_rate(learning_rate),
            weight_decay=weight_decay,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            name=name,
        )
        self.krylov_dimension = krylov_dimension
        self.damping = damping
        self.damping_grid = damping_grid
        self.curvature_batch_size = curvature_batch_size
        self.micro_batch_size = micro_batch_size
        self.inner_steps = inner_steps
        self.use_previous_step = use_previous_step
        self.reorthogonalize = reorthogonalize
        self.hvp_mode = hvp_mode
        self.max_step_norm = max_step_norm
        self.jit_compile = jit_compile
        self.max_consecutive_rejections = max_consecutive_rejections
        self.seed = seed
        self._settings = step_lib.Settings(
            krylov_dimension=krylov_dimension,
            damping=policy,
            inner_steps=inner_steps,
            reorthogonalize=reorthogonalize,
            max_step_norm=max_step_norm,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, for JSON."""
        config = super().get_config()
        for option in validation.REFUSED_KERAS_OPTIONS:
            config.pop(option, None)
        names = (
            "krylov_dimension damping damping_grid curvature_batch_size micro_batch_size "
            "inner_steps use_previous_step reorthogonalize hvp_mode max_step_norm jit_compile "
            "max_consecutive_rejections seed"
        )
        config.update({name: getattr(self, name) for name in names.split()})
        return config


def _damping_policy(damping: str | float, grid: Sequence[float] | None) -> damping_lib.Damping:
    if grid is not None and damping != "search":
        raise ValueError(
            '`damping_grid` is read only with `damping="search"`. Received: '
            f"damping={damping!r}, damping_grid={grid}. Remove one of the two."
        )
    if damping == "search":
        values = DEFAULT_DAMPING_GRID if grid is None else grid
        return damping_lib.SearchDamping(validation.positive_values("damping_grid", values))
    if damping == "adaptive":
        return damping_lib.AdaptiveDamping()
    return damping_lib.FixedDamping(validation.damping_value(damping))
