"""The saddle-free Newton method in a subspace: the main optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_sfn.newton import directions
from keras_sfn.optimizers import arguments, newton_optimizer, shared_arguments

_METHOD = arguments.Method(directions.saddle_free_direction, leave_saddles=True)


@shared_arguments.documented
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
        {{learning_rate}}
        krylov_dimension: Integer >= 1, Lanczos vectors a step (at most the number of parameters),
            which span a Krylov space; or `"auto"`: directions scaled by an approximation of the
            curvature, one Kronecker product a layer, made from reverse passes every 20 steps. One a
            step, three for a loss with loops (recurrent layers), or four where no part of the rows
            can be taken for all (`minimize`). Where the first step finds that this does not apply
            (a loss of the parameters alone, without rows), `"auto"` is ten Lanczos vectors, and the
            log says why. None: the whole Hessian, as in `ExactSaddleFreeNewton`, without the
            previous step and without XLA.
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
            the rows to all, as it pays, where directions are preconditioned and losses are such
            means; and all rows else. With None the preconditioner's samples are of all rows too,
            instead of a quarter each.
        preconditioned_directions: Integer >= 1 or `"auto"`: one to eight, as it pays. Goes with
            krylov_dimension="auto".
        {{micro_batch_size}}
        stochastic: True: steps for noisy batches. The direction is an average of gradients over
            steps, scaled by their own averaged squares in the eigenbasis of each layer; every fifth
            to tenth step a Hessian-vector product along it says how far to go, downhill along
            negative curvature too. A step costs little more than one gradient. False: steps as
            above. `"auto"`: the first where batches differ from step to step and the gradients of
            their parts differ enough, or the loss draws random numbers and the gradients of two
            draws do, in `fit` on one device; the second else, and where `damping`,
            `curvature_batch_size`, `preconditioned_directions`, `krylov_dimension` or
            `inner_steps` is given.
        inner_steps: Integer >= 1, steps taken in one subspace with the same Ritz values and a new
            gradient each.
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
        Dauphin et al., 2014, https://arxiv.org/abs/1406.2572. Departures from its Algorithm 1 are
        listed, with the reasons, in the module `keras_sfn.newton.step`.
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        krylov_dimension: int | str | None = "auto",
        damping: str | float | Sequence[float] = "auto",
        curvature_batch_size: int | str | None = "auto",
        preconditioned_directions: int | str = "auto",
        micro_batch_size: int | None = None,
        stochastic: bool | str = "auto",
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
        super().__init__(_METHOD, shared_arguments.named(locals()), kwargs)
