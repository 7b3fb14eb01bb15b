"""One pass through a user's train step, in which calls of `apply` are caught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_sfn.fit import tapes
from keras_sfn.optimizers import caught, newton_optimizer


class Call(NamedTuple):
    """A call of `apply`.

    Attributes:
        optimizer: Of the call.
        variables: To which gradients were applied.
        taken: Numbers of the calls of `tape.gradient` that gave these.
    """

    optimizer: keras.optimizers.Optimizer
    variables: list[keras.Variable]
    taken: frozenset[int]


class Plan(NamedTuple):
    """What a train step does.

    Attributes:
        calls: Its calls of `apply`, in their order.
        unused: Gradients that go to `apply` and nowhere else, as `needless` of `tapes.Record`.
    """

    calls: list[Call]
    unused: dict[int, list[bool]]


class _ReachedError(BaseException):
    """The pass is where it should end. No `Exception`: code of a user must not catch it."""


class _StepsByItselfError(BaseException):
    """The train step hands the optimizer a loss: by `minimize`, or by Keras's own train step."""


class Pass:
    """A pass through a train step.

    Args:
        own: The train step.
        held: Variable -> the tensor that stands for it, or None.
        watched: Variables whose values tapes watch.
        plan: What the calls must be; None in a rehearsal.
        upto: Index of the call at which the pass ends; None: it runs to its end.
        on_applied: Called after each call of `apply` before that one, with its index.

    Attributes:
        calls: The calls so far.
        loss: Scalar of which the gradients of the last call are, for one of our optimizers.
        gradients: Of the last call.
        logs: What the train step returned, if it was run to its end.
        assigned: Pairs of a trained variable and what the train step assigned to it at last.
    """

    def __init__(
        self,
        own: Callable[[Any], Any],
        held: Callable[[keras.Variable], tf.Tensor | None],
        watched: Sequence[keras.Variable],
        plan: Plan | None,
        upto: int | None,
        on_applied: Callable[[int], None],
    ) -> None:
        self._own, self._held, self._watched = own, held, watched
        self._plan, self._upto, self._on_applied = plan, upto, on_applied
        self._graph = _graph_in_force()
        self.calls: list[Call] = []
        self.loss: tf.Tensor | None = None
        self.gradients: list[Any] = []
        self.logs: Any = None
        self.assigned: list[tuple[keras.Variable, tf.Tensor]] = []

    def run(self, data: Any) -> tapes.Record:
        """Runs the train step; returns what its tapes gave.

        Args:
            data: As Keras hands it to a train step.
        """
        self._record = tapes.Record(self._value_of, self._watched, self._needless())
        reached = False
        with caught.by(self), tapes.recorded(self._record):
            try:
                self.logs = self._own(data)
            except _ReachedError:
                reached = True
        if self._plan is not None and not reached and len(self.calls) != len(self._plan.calls):
            _refuse_others(self._plan, self.calls)
        return self._record

    def applied(
        self, optimizer: keras.optimizers.Optimizer, gradients: Any, variables: Any
    ) -> None:
        """Takes note of gradients; see `caught.Catcher`."""
        self.gradients = list(gradients)
        if not self.gradients:
            return
        variables = list(optimizer._trainable_variables if variables is None else variables)
        if _graph_in_force() is not self._graph:
            raise NotImplementedError(
                "`apply` cannot be called in a branch, loop or `tf.function` inside a model's own "
                f"`train_step` with `keras_sfn` optimizers. Received: a call of {optimizer.name} "
                "there. Call it at the top of the train step."
            )
        sources = [self._record.source(gradient) for gradient in self.gradients]
        if isinstance(optimizer, newton_optimizer.NewtonOptimizer):
            self.loss = _loss_of(optimizer, self.gradients, sources, variables)
        taken = frozenset(source.call for source in sources if source is not None)
        index = len(self.calls)
        self.calls.append(Call(optimizer, variables, taken))
        if self._plan is not None and not _same(self._plan.calls, self.calls):
            _refuse_others(self._plan, self.calls)
        if index == self._upto:
            raise _ReachedError
        self._on_applied(index)

    def stepped(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Ends a rehearsal; see `caught.Catcher`."""
        if self._plan is None:
            raise _StepsByItselfError
        raise NotImplementedError(
            "A model's own `train_step` must call either `apply` or `minimize` of `keras_sfn` "
            f"optimizers. Received: both, the last of {optimizer.name}. Call `minimize` alone."
        )

    def _value_of(self, variable: keras.Variable) -> Any:
        held = self._held(variable)
        return variable.value if held is None else held

    def _needless(self) -> dict[int, list[bool]]:
        """Returns the gradients that this pass need not take."""
        if self._plan is None:
            return {}
        wanted: frozenset[int] = frozenset()
        if self._upto is not None:
            call = self._plan.calls[self._upto]
            ours = isinstance(call.optimizer, newton_optimizer.NewtonOptimizer)
            wanted = frozenset() if ours else call.taken
        return {call: there for call, there in self._plan.unused.items() if call not in wanted}


def rehearse(own: Callable[[Any], Any], data: Any) -> Plan | None:
    """Runs a train step whose calls of `apply` do nothing.

    Args:
        own: The train step.
        data: As Keras hands it to a train step.

    Returns:
        What it does, or None where it hands an optimizer of this package a loss.
    """
    run = Pass(own, lambda variable: None, (), None, None, lambda index: None)
    try:
        record = run.run(data)
    except _StepsByItselfError:
        return None
    return Plan(run.calls, {} if tf.executing_eagerly() else record.unused())


def _graph_in_force() -> Any:
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def _same(planned: Sequence[Call], found: Sequence[Call]) -> bool:
    return len(found) <= len(planned) and all(
        one.optimizer is other.optimizer
        and [id(v) for v in one.variables] == [id(v) for v in other.variables]
        for one, other in zip(planned, found, strict=False)
    )


def _refuse_others(plan: Plan, found: Sequence[Call]) -> None:
    def names(calls: Sequence[Call]) -> str:
        return ", ".join(f"{c.optimizer.name} ({len(c.variables)} variables)" for c in calls)

    raise RuntimeError(
        "A model's own `train_step` must apply the same optimizers to the same variables in the "
        f"same order each time that it is run. Received: first {names(plan.calls)}, then "
        f"{names(found)}. Take Python branches out of it."
    )


def _loss_of(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Any],
    sources: Sequence[tapes.Source | None],
    variables: Sequence[keras.Variable],
) -> tf.Tensor:
    """Returns the loss that gradients are of, as a tape gave them."""
    losses: dict[tuple[int, ...], tf.Tensor] = {}
    for gradient, source, variable in zip(gradients, sources, variables, strict=True):
        if gradient is None:
            continue
        if source is None or source.variable is not variable:
            raise ValueError(
                f"`apply` of {optimizer.name} needs gradients as `tape.gradient` gave them, since "
                "a step is taken on the loss that they are of. Received for "
                f"`{variable.path}`: something made of a gradient, or the gradient by another "
                "variable. In place of clipping use `max_step_norm`; scale the loss instead of the "
                "gradients; in place of accumulation and averages take a larger batch."
            )
        losses[tuple(id(part) for part in keras.tree.flatten(source.target))] = source.loss
    if len(losses) != 1:
        found = "no gradients at all" if not losses else f"gradients of {len(losses)} losses"
        raise ValueError(
            f"`apply` of {optimizer.name} needs gradients of one loss, on which a step is taken. "
            f"Received: {found}. Take one gradient of the sum of the losses, or use one optimizer "
            "for each."
        )
    return next(iter(losses.values()))


def install() -> None:
    """Puts a function before `apply` of Keras's optimizers that asks who catches, once."""
    original = keras.optimizers.Optimizer.apply
    if hasattr(original, _MARK):
        return

    def apply(
        self: keras.optimizers.Optimizer, grads: Any, trainable_variables: Any = None
    ) -> None:
        catcher = caught.in_force()
        if catcher is None:
            original(self, grads, trainable_variables)
        else:
            catcher.applied(self, grads, trainable_variables)

    apply.__doc__ = original.__doc__
    setattr(apply, _MARK, original)
    keras.optimizers.Optimizer.apply = apply


_MARK = "_keras_sfn_original"
