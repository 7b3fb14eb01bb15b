"""The Keras optimizers: one method each, their arguments and documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_sfn.newton import directions
from keras_sfn.optimizers import newton_optimizer, step_kinds

_SADDLE_FREE = step_kinds.Method(directions.saddle_free_direction, leave_saddles=True)
_DAMPED = step_kinds.Method(directions.newton_direction, leave_saddles=False)


@keras.saving.register_keras_serializable(package="keras_sfn")
class SaddleFreeNewton(newton_optimizer.NewtonOptimizer):
    """Saddle-free Newton method in a subspace of few directions.

    One step, on one batch:

        V           = directions from the gradient g, and the previous step
        theta, U    = eigenpairs of V H V'
        step        = -learning_rate V' U (|theta| + damping)^-1 U' V g

    Directions of negative curvature are followed downhill, so saddle points repel where Newton's
    method is drawn to them. Products with H are exact; H is never formed. Directions are those of a
    Krylov space (Lanczos vectors) or, by default where that is possible, the same scaled by an
    approximate curvature of each layer: one of these is enough. A step costs one gradient,
    `krylov_dimension` (+ 1) Hessian-vector products of about two gradients each, on
    `curvature_batch_size` rows, and one forward pass for each damping tried.

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
        krylov_dimension: Integer >= 1, Lanczos vectors a step (at most the number of parameters),
            which span a Krylov space; or `"auto"`: directions scaled by an approximation of the
            curvature, one Kronecker product a layer, made from reverse passes every 20 steps. One a
            step, or three for a loss with loops (recurrent layers). Where the first step finds that
            this does not apply (it needs `fit` and a loss of the model's outputs, on one device),
            `"auto"` is ten Lanczos vectors.
        damping: `"adaptive"` follows the reduction ratio (Levenberg-Marquardt). `"search"` looks
            along a grid, 10, 1, ... 1e-6 times the largest |Ritz value|, for the lowest loss of the
            batch, at the first step (and after a rejection) over all of it, later to both sides of
            the last value; a list of floats > 0 is such a grid. A float >= 0 is used as it is, in
            units of curvature, or relative to the preconditioner where there is one. `"auto"` is
            the first with preconditioned directions, the second without. Under all but a float a
            step that does not lower the loss of its batch is rejected and leaves the parameters.
        curvature_batch_size: Integer >= 1, None (all rows) or `"auto"`. The Hessian is that of the
            first so many rows of the batch; loss and gradient always see all rows. A number needs
            losses that are means over rows (Keras's default), and `fit`. `"auto"` is a sixteenth of
            the rows, 256 at least, where directions are preconditioned and losses are such means,
            and all rows else. With None the preconditioner's samples are of all rows too, instead
            of a quarter each.
        micro_batch_size: Integer >= 1 or None. A batch with more rows is evaluated in slices of so
            many, and activations take the memory of one slice. The step is the same to rounding,
            but that BatchNormalization normalises each slice by its own statistics. Needs losses
            that are means over rows, and `fit`.
        inner_steps: Integer >= 1, steps taken in one subspace with the same Ritz values and a new
            gradient each.
        use_previous_step: Whether the last accepted step joins the subspace, at the cost of one
            more product.
        reorthogonalize: Whether the basis is kept orthonormal, to the root of the precision:
            earlier vectors are taken out of a new one where rounding has brought them back.
        hvp_mode: `"forward_over_reverse"`, `"reverse_over_reverse"`, or `"auto"`: the first where
            every op of the model allows it.
        max_step_norm: Float > 0 or None, the largest Euclidean norm of a step.
        jit_compile: Whether the step is compiled by XLA; `"auto"` decides by device and model, and
            is True with `compile(jit_compile=True)`.
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
        krylov_dimension: int | str = "auto",
        damping: str | float | Sequence[float] = "auto",
        curvature_batch_size: int | str | None = "auto",
        micro_batch_size: int | None = None,
        inner_steps: int = 1,
        use_previous_step: bool = True,
        reorthogonalize: bool = True,
        hvp_mode: str = "auto",
        max_step_norm: float | None = None,
        jit_compile: bool | str = "auto",
        seed: int = 0,
        weight_decay: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        name: str = "saddle_free_newton",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            _SADDLE_FREE,
            {
                "krylov_dimension": krylov_dimension,
                "damping": damping,
                "curvature_batch_size": curvature_batch_size,
                "micro_batch_size": micro_batch_size,
                "inner_steps": inner_steps,
                "use_previous_step": use_previous_step,
                "reorthogonalize": reorthogonalize,
                "hvp_mode": hvp_mode,
                "max_step_norm": max_step_norm,
                "jit_compile": jit_compile,
                "seed": seed,
            },
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            name=name,
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="keras_sfn")
class ExactSaddleFreeNewton(newton_optimizer.NewtonOptimizer):
    """Saddle-free Newton method with the whole Hessian, for small models.

    One step, on one batch, with gradient g and Hessian H = U diag(theta) U':

        step = -learning_rate U (|theta| + damping)^-1 U' g

    A step costs n Hessian-vector products and the eigenvalues of an n x n matrix, by NumPy in
    float64 where there is no GPU: of a CPU's time 4 s at n = 2,785 parameters (a batch of 2,000)
    and 28 s at 5,560 (1,000), of which 24 s for the eigenvalues. Memory is that of eight n x n
    matrices in float64; what cannot fit is refused. `SaddleFreeNewton` does the same in a Krylov
    subspace, and is equal to it where the subspace is the whole space.

    Example:
    >>> model.compile(optimizer="exact_saddle_free_newton", loss="mse")
    >>> model.fit(x, y, batch_size=1024, epochs=10)

    Args:
        learning_rate: Float, `keras.optimizers.schedules.LearningRateSchedule` or callable; factor
            on the step. 1.0 is the full Newton-like step.
        damping: `"search"` looks along a grid, 10, 1, ... 1e-6 times the largest |Ritz value|, for
            the lowest loss of the batch, at the first step (and after a rejection) over all of it,
            later to both sides of the last value; a list of floats > 0 is such a grid;
            `"adaptive"` follows the reduction ratio (Levenberg-Marquardt); a float >= 0 is used as
            it is, in units of curvature. Under all but a float a step that does not lower the loss
            of its batch is rejected and leaves the parameters.
        curvature_batch_size: Integer >= 1 or None. The Hessian is that of the first so many rows
            of the batch; loss and gradient always see all rows. Needs losses that are means over
            rows (Keras's default), and `fit`.
        micro_batch_size: Integer >= 1 or None. A batch with more rows is evaluated in slices of so
            many, and activations take the memory of one slice. The step is the same to rounding,
            but that BatchNormalization normalises each slice by its own statistics. Needs losses
            that are means over rows, and `fit`.
        inner_steps: Integer >= 1, steps with the eigenvalues of one Hessian; each costs a gradient
            and some evaluations of the loss.
        hvp_mode: `"forward_over_reverse"`, `"reverse_over_reverse"`, or `"auto"`: the first where
            every op of the model allows it.
        max_step_norm: Float > 0 or None, the largest Euclidean norm of a step.
        weight_decay: Float or None, decoupled weight decay as in Keras; not applied by a rejected
            step.
        use_ema: As in every Keras optimizer.
        ema_momentum: As in every Keras optimizer.
        ema_overwrite_frequency: As in every Keras optimizer.
        name: Name of the optimizer.

    Raises:
        ValueError: An argument is unknown, out of range, or contradicts another.

    Reference:
        Dauphin et al., 2014, https://arxiv.org/abs/1406.2572.
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        damping: str | float | Sequence[float] = "search",
        curvature_batch_size: int | None = None,
        micro_batch_size: int | None = None,
        inner_steps: int = 1,
        hvp_mode: str = "auto",
        max_step_norm: float | None = None,
        weight_decay: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        name: str = "exact_saddle_free_newton",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            _SADDLE_FREE,
            {
                "damping": damping,
                "curvature_batch_size": curvature_batch_size,
                "micro_batch_size": micro_batch_size,
                "inner_steps": inner_steps,
                "hvp_mode": hvp_mode,
                "max_step_norm": max_step_norm,
            },
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            name=name,
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="keras_sfn")
class DampedNewton(newton_optimizer.NewtonOptimizer):
    """Damped Newton method, the paper's baseline: drawn to saddle points.

    The same code as `SaddleFreeNewton` but for what it makes of the eigenvalues,

        step = -learning_rate V' U (theta + damping)^-1 U' V g

    which goes up along directions whose negative curvature the damping does not outweigh.

    Example:
    >>> model.compile(optimizer="damped_newton", loss="mse")
    >>> model.fit(x, y, batch_size=1024, epochs=10)

    Args:
        learning_rate: Float, `keras.optimizers.schedules.LearningRateSchedule` or callable; factor
            on the step. 1.0 is the full Newton-like step.
        krylov_dimension: Integer >= 1, Lanczos vectors a step; or None for the whole Hessian, as in
            `ExactSaddleFreeNewton`, without the previous step and without XLA.
        damping: `"search"` looks along a grid, 10, 1, ... 1e-6 times the largest |Ritz value|, for
            the lowest loss of the batch, at the first step (and after a rejection) over all of it,
            later to both sides of the last value; a list of floats > 0 is such a grid;
            `"adaptive"` follows the reduction ratio (Levenberg-Marquardt); a float >= 0 is used as
            it is, in units of curvature. Under all but a float a step that does not lower the loss
            of its batch is rejected and leaves the parameters.
        curvature_batch_size: Integer >= 1 or None. The Hessian is that of the first so many rows
            of the batch; loss and gradient always see all rows. Needs losses that are means over
            rows (Keras's default), and `fit`.
        micro_batch_size: Integer >= 1 or None. A batch with more rows is evaluated in slices of so
            many, and activations take the memory of one slice. The step is the same to rounding,
            but that BatchNormalization normalises each slice by its own statistics. Needs losses
            that are means over rows, and `fit`.
        inner_steps: Integer >= 1, steps in one subspace; each costs a gradient and some evaluations
            of the loss.
        use_previous_step: Whether the last accepted step joins the subspace, at the cost of one
            more product.
        reorthogonalize: Whether the basis is kept orthonormal, to the root of the precision:
            earlier vectors are taken out of a new one where rounding has brought them back.
        hvp_mode: `"forward_over_reverse"`, `"reverse_over_reverse"`, or `"auto"`: the first where
            every op of the model allows it.
        max_step_norm: Float > 0 or None, the largest Euclidean norm of a step.
        jit_compile: Whether the step is compiled by XLA; `"auto"` decides by device and model, and
            is True with `compile(jit_compile=True)`.
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
        Dauphin et al., 2014, https://arxiv.org/abs/1406.2572, section 4.
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        krylov_dimension: int | None = 10,
        damping: str | float | Sequence[float] = "search",
        curvature_batch_size: int | None = None,
        micro_batch_size: int | None = None,
        inner_steps: int = 1,
        use_previous_step: bool = True,
        reorthogonalize: bool = True,
        hvp_mode: str = "auto",
        max_step_norm: float | None = None,
        jit_compile: bool | str = "auto",
        seed: int = 0,
        weight_decay: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        name: str = "damped_newton",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            _DAMPED,
            {
                "krylov_dimension": krylov_dimension,
                "damping": damping,
                "curvature_batch_size": curvature_batch_size,
                "micro_batch_size": micro_batch_size,
                "inner_steps": inner_steps,
                "use_previous_step": use_previous_step,
                "reorthogonalize": reorthogonalize,
                "hvp_mode": hvp_mode,
                "max_step_norm": max_step_norm,
                "jit_compile": jit_compile,
                "seed": seed,
            },
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            name=name,
            **kwargs,
        )
