"""The Keras optimizer: hyper-parameters, state, configuration, and one step on a loss function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import keras
import tensorflow as tf
from absl import logging

from keras_sfn import damping as damping_lib
from keras_sfn import devices, differentiability, graphs, hessian, validation, vectors
from keras_sfn import objective as objective_lib
from keras_sfn import step as step_lib

DEFAULT_DAMPING_GRID = (1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)

LossFunction = Callable[[], tuple[tf.Tensor, Any]]


@keras.saving.register_keras_serializable(package="keras_sfn")
class SaddleFreeNewton(keras.optimizers.Optimizer):
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
        inner_steps: Integer >= 1, steps taken in one subspace with the same Ritz values and a new
            gradient each.
        use_previous_step: Whether the last accepted step joins the subspace, at the cost of one
            more product.
        reorthogonalize: Whether each Lanczos vector is orthogonalised against all before it.
        hvp_mode: `"forward_over_reverse"`, `"reverse_over_reverse"`, or `"auto"`: the first where
            every op of the model allows it.
        max_step_norm: Float > 0 or None, the largest Euclidean norm of a step.
        jit_compile: Whether the step is compiled by XLA; `"auto"` decides by device and model.
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
        validation.refuse_keras_options(kwargs)
        validation.integer_at_least("krylov_dimension", krylov_dimension, 1)
        validation.integer_at_least("inner_steps", inner_steps, 1)
        validation.integer_at_least("curvature_batch_size", curvature_batch_size, 1, optional=True)
        validation.integer_at_least("seed", seed, 0)
        validation.positive("max_step_norm", max_step_norm, optional=True)
        validation.boolean("use_previous_step", use_previous_step)
        validation.boolean("reorthogonalize", reorthogonalize)
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
        self.inner_steps = inner_steps
        self.use_previous_step = use_previous_step
        self.reorthogonalize = reorthogonalize
        self.hvp_mode = hvp_mode
        self.max_step_norm = max_step_norm
        self.jit_compile = jit_compile
        self.seed = seed
        self._settings = step_lib.Settings(
            krylov_dimension=krylov_dimension,
            damping=policy,
            inner_steps=inner_steps,
            reorthogonalize=reorthogonalize,
            max_step_norm=max_step_norm,
        )

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the state: previous step, damping and the count of rejected steps."""
        if self.built:
            return
        variables = list(variables)
        space = vectors.ParameterSpace(variables)
        super().build(variables)
        if self.use_previous_step:
            self._previous_step = self.add_optimizer_variables(variables, "previous_step")
        self._damping_state = self.add_variable(
            shape=(),
            initializer=keras.initializers.Constant(damping_lib.UNSET),
            dtype=space.dtype,
            aggregation="only_first_replica",
            name="damping",
        )
        self._rejected_steps = self.add_variable(
            shape=(), dtype="int", aggregation="only_first_replica", name="rejected_steps"
        )

    @property
    def rejected_steps(self) -> keras.Variable:
        """Scalar integer variable: how many steps so far left the parameters as they were."""
        if not self.built:
            raise ValueError(
                "`rejected_steps` exists once the optimizer is built. Train a step first, or call "
                "`optimizer.build(model.trainable_variables)`."
            )
        return self._rejected_steps

    def minimize(
        self, loss_fn: Callable[[], tf.Tensor], variables: Sequence[keras.Variable]
    ) -> tf.Tensor:
        """Takes one step on `loss_fn`, in eager code or inside a `tf.function`.

        The loss is evaluated many times; randomness and state (dropout seeds, moving statistics)
        are frozen meanwhile and move once. Inside a `tf.function` the step is compiled with it,
        which is many times faster than eager code.

        Args:
            loss_fn: Callable without arguments that returns a scalar loss and reads `variables`.
            variables: The `keras.Variable` objects to train, the same at every call.

        Returns:
            The scalar loss before the step.

        Raises:
            ValueError: The loss is no real scalar or does not depend on `variables`, or
                `curvature_batch_size` is set (only `fit` knows the rows of a batch).
            TypeError: A variable is not a `keras.Variable`, or is complex or integer.
        """
        if self.curvature_batch_size is not None:
            raise ValueError(
                "`curvature_batch_size` needs `model.fit`, which knows the rows of a batch. "
                f"Received: curvature_batch_size={self.curvature_batch_size} in `minimize`. "
                "Leave it at None in a hand-written loop."
            )
        # A `tf.function` would keep the values of its first trace: use what it was made from.
        loss_fn = getattr(loss_fn, "python_function", loss_fn)
        # Python control flow on tensors in `loss_fn` is converted where the caller's is.
        loss_fn = tf.__internal__.autograph.tf_convert(
            loss_fn, tf.__internal__.autograph.control_status_ctx()
        )
        loss, _ = self.step(lambda: (loss_fn(), None), variables)
        return loss

    @tf.autograph.experimental.do_not_convert
    def step(
        self,
        loss_fn: LossFunction,
        variables: Sequence[keras.Variable],
        *,
        curvature_loss_fn: LossFunction | None = None,
        can_compile: bool = True,
    ) -> tuple[tf.Tensor, Any]:
        """Takes one step; what `minimize` and the train step of a model share.

        Args:
            loss_fn: Returns `(loss, outputs)`.
            variables: The variables to train.
            curvature_loss_fn: Like `loss_fn`, for the Hessian alone; defaults to `loss_fn`.
            can_compile: Whether `jit_compile="auto"` may choose XLA.

        Returns:
            The scalar loss before the step, and the outputs of the pass at that point.
        """
        devices.refuse_replicas()
        space = vectors.ParameterSpace(variables)
        if not self.built:
            with keras.name_scope(self.name):
                self.build(space.variables)
        self._check_variables_are_known(space.variables)
        objective = objective_lib.Objective(loss_fn, space)
        curvature = objective
        if curvature_loss_fn is not None:
            curvature = objective_lib.Objective(curvature_loss_fn, space)
        updated: list[keras.Variable] = []
        eager = tf.executing_eagerly()
        ops = _try_out(objective) if eager else differentiability.examine(objective)
        mode = hessian.resolve_mode(self.hvp_mode, ops)

        def compute() -> tuple[tf.Tensor, Any, list[tf.Tensor], step_lib.StepResult]:
            evaluation, result = self._compute_step(objective, curvature, mode)
            updated[:] = [variable for variable, _ in evaluation.updates]
            values = [value for _, value in evaluation.updates]
            return evaluation.loss, evaluation.outputs, values, result

        if not eager:
            jit = devices.jit_compile(self.jit_compile, ops, can_compile)
            compute = tf.function(compute, autograph=False, jit_compile=jit)
        loss, outputs, values, result = compute()
        _carry_out(updated, values, tf.math.is_finite(loss))
        self._apply_step(space, result)
        return loss, outputs

    def _compute_step(
        self, objective: objective_lib.Objective, curvature: objective_lib.Objective, mode: str
    ) -> tuple[objective_lib.Evaluation, step_lib.StepResult]:
        space = objective.space
        point = space.flatten(space.values())
        evaluation, gradient = objective.evaluation_and_gradient(point, hold_constants=True)
        previous = None
        if self.use_previous_step:
            previous = space.flatten(
                [self._previous_step[self._get_variable_index(v)] for v in space.variables]
            )
        problem = step_lib.Problem(
            loss=objective.loss,
            gradient=objective.gradient,
            matvec=hessian.hessian_vector_product(curvature, point, mode),
        )
        result = step_lib.saddle_free_step(
            problem,
            self._settings,
            point,
            evaluation.loss,
            gradient,
            previous_step=previous,
            damping=tf.convert_to_tensor(self._damping_state),
            learning_rate=keras.ops.convert_to_tensor(self.learning_rate, space.dtype),
            seed=tf.stack([self.seed, tf.cast(self._iterations.value, tf.int32)]),
        )
        return evaluation, result

    def _apply_step(self, space: vectors.ParameterSpace, result: step_lib.StepResult) -> None:
        steps = space.unflatten(result.step)
        self._damping_state.assign(result.next_damping)
        self._rejected_steps.assign_add(tf.cast(~result.accepted, self._rejected_steps.dtype))
        if self.use_previous_step:
            for variable, step in zip(space.variables, steps, strict=True):
                previous = self._previous_step[self._get_variable_index(variable)]
                previous.assign(tf.where(result.accepted, step, previous.value))
        if self.weight_decay is not None:
            steps = [
                step - tf.where(result.accepted, self._decay(variable), 0)
                for step, variable in zip(steps, space.variables, strict=True)
            ]
        # Keras's own bookkeeping: constraints, moving averages, the iteration counter. It hands
        # each step to `update_step`.
        super().apply(steps, space.variables)

    def _decay(self, variable: keras.Variable) -> tf.Tensor:
        if not self._use_weight_decay(variable):
            return tf.zeros_like(variable.value)
        rate = keras.ops.convert_to_tensor(self.learning_rate, variable.dtype)
        return self.weight_decay * rate * variable.value

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Does nothing: the decay is part of the step, so that a rejected step has none."""

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Adds the finished step, which arrives in the place of a gradient."""
        self.assign_add(variable, gradient)

    def apply(self, grads: Any, trainable_variables: Any = None) -> NoReturn:
        """Refuses: a second-order step cannot be computed from gradients alone."""
        raise ValueError(
            "`apply` and `apply_gradients` cannot be used with `keras_sfn` optimizers: the step "
            "needs Hessian-vector products of the loss, not only its gradient. In a hand-written "
            "loop or a custom `train_step`, call `optimizer.minimize(loss_fn, variables)` with a "
            "`loss_fn()` that returns the scalar loss."
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, for JSON."""
        config = super().get_config()
        for option in validation.REFUSED_KERAS_OPTIONS:
            config.pop(option, None)
        names = (
            "krylov_dimension damping damping_grid curvature_batch_size inner_steps "
            "use_previous_step reorthogonalize hvp_mode max_step_norm jit_compile seed"
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


# What code that runs only eagerly raises in a trace: branches on tensors, `tensor.numpy()`.
_ONLY_EAGER = (tf.errors.OperatorNotAllowedInGraphError, AttributeError)


def _try_out(objective: objective_lib.Objective) -> frozenset[str]:
    """In eager code the loss is also evaluated twice: a graph would not show Python's state."""
    point = objective.space.flatten(objective.space.values())
    first, second = float(objective.loss(point)), float(objective.loss(point))
    # Parallel sums on a GPU may differ by rounding; random numbers and other batches by far more.
    if abs(first - second) > 1e-4 * max(abs(first), abs(second)):
        found = f"Two evaluations at the same point gave {first} and {second}"
        raise ValueError(graphs.UNREPEATABLE.format(found=found))
    try:
        differentiability.examine(objective)
    except _ONLY_EAGER as error:
        logging.log_first_n(
            logging.WARNING,
            "The loss cannot be traced into a graph (%s), so that it is not known whether all of "
            "its ops have right second derivatives. `keras_sfn.check_curvature` can tell where "
            "the branch of Python code is taken out.",
            1,
            error,
        )
    return frozenset()


def _carry_out(variables: list[keras.Variable], values: list[tf.Tensor], finite: tf.Tensor) -> None:
    """Assigns what the pass at the old parameters would have assigned."""
    for variable, value in zip(variables, values, strict=True):
        if value.dtype.is_floating:
            # Statistics of a batch that is not finite would spoil the model for good.
            value = tf.where(finite, value, tf.cast(variable.value, value.dtype))
        variable.assign(value)
