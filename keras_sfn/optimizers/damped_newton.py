"""The damped Newton method, the baseline of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_sfn.newton import directions
from keras_sfn.optimizers import arguments, newton_optimizer, shared_arguments

_METHOD = arguments.Method(directions.newton_direction, leave_saddles=False)


@shared_arguments.documented
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
        {{learning_rate}}
        krylov_dimension: Integer >= 1, Lanczos vectors a step; or None for the whole Hessian, as in
            `ExactSaddleFreeNewton`, without the previous step and without XLA; or `"auto"`, as in
            `SaddleFreeNewton`.
        {{damping}}
        {{curvature_batch_size}}
        {{micro_batch_size}}
        inner_steps: Integer >= 1, steps in one subspace; each costs a gradient and some evaluations
            of the loss.
        {{use_previous_step}}
        {{reorthogonalize}}
        {{hvp_mode}}
        {{max_step_norm}}
        {{jit_compile}}
        {{seed}}
        {{weight_decay}}
        {{use_ema}}
        {{ema_momentum}}
        {{ema_overwrite_frequency}}
        {{name}}

    Raises:
        ValueError: An argument is unknown, out of range, or contradicts another.

    Reference:
        Dauphin et al., 2014, https://arxiv.org/abs/1406.2572, section 4.
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        krylov_dimension: int | str | None = 10,
        damping: str | float | Sequence[float] = "search",
        curvature_batch_size: int | str | None = None,
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
        super().__init__(_METHOD, shared_arguments.named(locals()), kwargs)
