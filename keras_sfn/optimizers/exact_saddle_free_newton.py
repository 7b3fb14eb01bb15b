"""The saddle-free Newton method with the whole Hessian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_sfn.newton import directions
from keras_sfn.optimizers import arguments, newton_optimizer, shared_arguments

_METHOD = arguments.Method(directions.saddle_free_direction, leave_saddles=True)


@shared_arguments.documented
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
        {{learning_rate}}
        {{damping}}
        {{curvature_batch_size}}
        {{micro_batch_size}}
        inner_steps: Integer >= 1, steps with the eigenvalues of one Hessian; each costs a gradient
            and some evaluations of the loss.
        {{hvp_mode}}
        {{max_step_norm}}
        {{weight_decay}}
        {{use_ema}}
        {{ema_momentum}}
        {{ema_overwrite_frequency}}
        {{name}}

    Raises:
        ValueError: An argument is unknown, out of range, or contradicts another.

    Reference:
        Dauphin et al., 2014, https://arxiv.org/abs/1406.2572.
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        damping: str | float | Sequence[float] = "search",
        curvature_batch_size: int | str | None = None,
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
        super().__init__(_METHOD, shared_arguments.named(locals()), kwargs)
