"""A model's own `train_step` as the loss of the steps that our optimizers take in it.

Such a step computes gradients by a tape and calls `optimizer.apply`. What is asked for is the loss
behind these gradients, as a function of the variables. The train step itself is that function: run
in a frozen evaluation up to the call of `apply`, it gives what the tape differentiated. So a batch
is trained in three acts:

1. A rehearsal, in a graph that is thrown away: which optimizers are applied to which variables.
2. One step after the other, in the order of the calls: those of ours on the loss that the train
   step gives up to there, those of Keras's own by the gradients that it gives.
3. The train step once more, to its end: its logs are returned, and what it assigns is assigned
   (metrics, moving statistics, a teacher's weights). At each call of `apply` the variables change
   there from what they held to what the step has made of them.

Which is done in the thread that traces or runs it, and only for such a step.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_sfn.backend import collectives, graphs
from keras_sfn.fit import passes
from keras_sfn.objective import batches, frozen_scope, parameter_space
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import rows as rows_lib
from keras_sfn.optimizers import newton_optimizer, step_program

# What code that runs only eagerly raises in a trace.
_ONLY_EAGER = (tf.errors.OperatorNotAllowedInGraphError, AttributeError)

TrainStep = Callable[[Any], Any]


def of(model: keras.Model) -> TrainStep | None:
    """Returns the train step that a model has of its own, or None where it has Keras's.

    Args:
        model: Any.
    """
    found = inspect.getattr_static(model, "train_step")
    if found is inspect.getattr_static(keras.Model, "train_step"):
        return None
    inside = getattr(found, "python_function", None)
    if inside is None:
        own: TrainStep = model.train_step
        return own
    # Cached by `tf.function`, it would keep the variables of its first trace. It is converted where
    # it was.
    converted = tf.autograph.to_graph(inside)
    return lambda data: converted(model, data)


@contextlib.contextmanager
def in_place(model: keras.Model, train_step: TrainStep | None) -> Iterator[None]:
    """Puts a train step in the place of a model's, until the block ends; None leaves it.

    Args:
        model: Whose attribute it is.
        train_step: What Keras is to call.
    """
    if train_step is None:
        yield
        return
    attributes = vars(model)
    missing = object()
    before = attributes.get("train_step", missing)
    attributes["train_step"] = train_step
    try:
        yield
    finally:
        del attributes["train_step"]
        if before is not missing:
            attributes["train_step"] = before


def trained(
    model: keras.Model, own: TrainStep, jit_compile: Callable[[keras.Model], bool | str]
) -> TrainStep:
    """Returns what Keras is to call in place of a model's own train step.

    Args:
        model: The model.
        own: Its train step.
        jit_compile: Model -> what the optimizer's "auto" is for it.
    """
    known: list[passes.Plan | None] = []

    @tf.autograph.experimental.do_not_convert
    def train_step(data: Any) -> Any:
        # Replicas would have to meet in the rehearsal's graph, which they cannot: there `apply`
        # says what to do.
        if not collectives.alone():
            return own(data)
        tensors = keras.tree.map_structure(_as_tensor, data)
        rows_lib.refuse_unknown_shapes(tensors)
        # In eager code once: it takes as long as a gradient.
        if not known or not tf.executing_eagerly():
            known[:] = [_rehearse(own, data)]
        plan = known[0]
        if plan is None:
            return own(data)
        _refuse(plan)
        return _Replay(model, own, plan, jit_compile(model)).take(tensors)

    return train_step


def _as_tensor(part: Any) -> Any:
    return part if part is None or tf.is_tensor(part) else tf.convert_to_tensor(part)


def _rehearse(own: TrainStep, data: Any) -> passes.Plan | None:
    """Returns what a train step applies; None where it applies none of our optimizers itself."""
    found: list[passes.Plan | None] = []

    def rehearsal() -> None:
        found[:] = [passes.rehearse(own, data)]

    try:
        graphs.concrete(rehearsal)
    except _ONLY_EAGER:
        if not tf.executing_eagerly():
            raise
        with keras.StatelessScope():
            rehearsal()
    plan = found[0]
    if plan is None or not any(_ours(call.optimizer) for call in plan.calls):
        return None
    for call in plan.calls:
        # As `apply` would; not in the evaluations, where nothing can be created.
        if not call.optimizer.built:
            with keras.name_scope(call.optimizer.name):
                call.optimizer.build(call.variables)
    return plan


def _ours(optimizer: Any) -> bool:
    return isinstance(optimizer, newton_optimizer.NewtonOptimizer)


def _refuse(plan: passes.Plan) -> None:
    for call in plan.calls:
        size = getattr(call.optimizer, "micro_batch_size", None)
        if _ours(call.optimizer) and size is not None:
            raise ValueError(
                "`micro_batch_size` needs the train step of Keras, which it can evaluate slice by "
                f"slice. Received: micro_batch_size={size} and a model with its own `train_step`. "
                "Override `compute_loss` instead, or use micro_batch_size=None."
            )


class _Stages(NamedTuple):
    """What the trained variables hold in the course of one train step.

    Attributes:
        variables: All of them.
        held: One mapping from their identities for each number of calls of `apply` that are done.
    """

    variables: list[keras.Variable]
    held: list[dict[int, tf.Tensor]]


class _Replay:
    """Trains one batch by a train step of a user.

    Args:
        model: Whose it is.
        own: The train step.
        plan: What the rehearsal has found.
        jit_compile: What the optimizer's "auto" is.
    """

    def __init__(
        self, model: keras.Model, own: TrainStep, plan: passes.Plan, jit_compile: bool | str
    ) -> None:
        self._model, self._own, self._plan, self._jit_compile = model, own, plan, jit_compile
        variables = {id(v): v for call in plan.calls for v in call.variables}
        self._stages = _Stages(list(variables.values()), [_read(list(variables.values()))])

    def take(self, data: Any) -> Any:
        """Takes the steps of a batch and returns the logs.

        Args:
            data: As Keras hands it to a train step.
        """
        batch = None
        for index, call in enumerate(self._plan.calls):
            if _ours(call.optimizer):
                batch = self._batch(index, data)
                call.optimizer.step(batch, self._jit_compile)
            else:
                call.optimizer.apply(self._gradients(index, data), call.variables)
            self._stages.held.append(self._stages.held[-1] | _read(call.variables))
        assert batch is not None
        return self._finish(batch, data)

    def _batch(self, index: int, data: Any) -> batches.Batch:
        """Returns the loss of the i-th call of `apply`."""

        def loss_of(part: Any) -> objective_lib.LossFunction:
            def loss_fn() -> tuple[tf.Tensor, Any]:
                return self._pass(part, index).loss, None

            return loss_fn

        space = parameter_space.ParameterSpace(self._plan.calls[index].variables)
        return batches.Batch(data, loss_of, space, obstacle=rows_lib.obstacle(data))

    def _gradients(self, index: int, data: Any) -> Sequence[Any]:
        """Returns the gradients of the i-th call of `apply`, for an optimizer of Keras."""

        def loss_fn() -> tuple[tf.Tensor, Any]:
            return tf.zeros(()), self._pass(data, index).gradients

        space = parameter_space.ParameterSpace(self._plan.calls[index].variables)
        gradients: Sequence[Any] = (
            objective_lib.Objective(loss_fn, space).evaluate(space.values()).outputs
        )
        return gradients

    def _finish(self, batch: batches.Batch, data: Any) -> Any:
        """Runs the train step to its end: returns its logs, assigns what it assigns."""

        def loss_fn() -> tuple[tf.Tensor, Any]:
            return tf.zeros(()), self._pass(data, None)

        # With the random numbers of the last step.
        evaluation = batch.alike(loss_fn).evaluate(batch.space.values())
        run: passes.Pass = evaluation.outputs
        updates = evaluation.updates + run.assigned
        metrics = {id(variable) for variable in self._model.metrics_variables}
        for variable, value in updates:
            if id(variable) in metrics:
                # As Keras's train step would: a loss that is not finite is shown.
                variable.assign(value)
            else:
                step_program.carry_out([variable], [value], tf.constant(True))
        return run.logs

    def _pass(self, data: Any, upto: int | None) -> passes.Pass:
        """Runs the train step in the evaluation in force, up to a call of `apply` or to the end."""
        scope = frozen_scope.in_force()
        assert scope is not None
        stages, calls = self._stages, self._plan.calls
        target = [] if upto is None else calls[upto].variables
        trial = {id(variable): scope.held(variable) for variable in target}

        def hold(variables: Sequence[keras.Variable], done: int) -> None:
            """Has variables hold what they do after so many calls."""
            for variable in variables:
                later = calls[done:upto] if id(variable) in trial else ()
                if id(variable) in trial and not any(
                    variable is other for call in later for other in call.variables
                ):
                    scope.hold(variable, trial[id(variable)])
                else:
                    scope.hold(variable, stages.held[done][id(variable)])

        hold(stages.variables, 0)
        run = passes.Pass(
            self._own,
            scope.held,
            stages.variables,
            self._plan,
            upto,
            lambda index: hold(calls[index].variables, index + 1),
        )
        run.run(data)
        if upto is not None:
            scope.forget_updates()
        else:
            last = stages.held[-1]
            values = [(variable, scope.held(variable)) for variable in stages.variables]
            run.assigned = [(v, value) for v, value in values if value is not last[id(v)]]
        return run


def _read(variables: Sequence[keras.Variable]) -> dict[int, tf.Tensor]:
    return {id(v): tf.identity(tf.convert_to_tensor(v.value)) for v in variables}
