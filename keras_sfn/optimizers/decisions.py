"""What an optimizer decides in Python while a step is traced, and says of it in the log.

A step that was traced for one model may be taken by another of the same kind (`fit.shared_steps`).
What the trace has left in the first optimizer, beside variables, is plain data, which the other
takes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from absl import logging

from keras_sfn.objective import traced as traced_lib
from keras_sfn.optimizers import arguments as arguments_lib


class Line(NamedTuple):
    """A line of the log, without the optimizer's name.

    Attributes:
        level: As in `absl.logging`.
        text: A sentence.
    """

    level: int
    text: str


class Decisions(NamedTuple):
    """The decisions of a trace.

    Attributes:
        kind: Of the steps.
        reason: Why directions are not preconditioned, or None.
        looks: Whether a step looks at the noise of its batch.
        draws: Whether the loss draws random numbers.
        first_compiled_step: From which step on XLA compiles.
        said: What the log said of the steps.
    """

    kind: arguments_lib.StepKind
    reason: str | None
    looks: bool
    draws: bool
    first_compiled_step: int
    said: tuple[Line, ...]


def lines(
    arguments: arguments_lib.Arguments, obstacle: str | None, size: int, traced: traced_lib.Traced
) -> tuple[Line, ...]:
    """Returns what the log is told of the steps of an optimizer, once their kind is decided.

    Args:
        arguments: The optimizer's.
        obstacle: Why no part of the batch may be taken for all of it, or None.
        size: n, the number of parameters.
        traced: What the trace of the loss shows.
    """
    found = [Line(logging.INFO, f"{arguments.describe(obstacle, size)}.")]
    sliced = arguments.values["micro_batch_size"]
    if sliced is not None and traced.rows_meet is not None:
        text = f"slices of `micro_batch_size`={sliced} rows are not the loss of the batch"
        found.append(Line(logging.WARNING, f"{text}: {traced.rows_meet}."))
    found.append(Line(logging.DEBUG, f"curvature of the loss in {traced.cut}."))
    return tuple(found)


def say(name: str, said: Sequence[Line]) -> None:
    """Writes lines to the log.

    Args:
        name: The optimizer's.
        said: The lines.
    """
    for line in said:
        logging.log(line.level, "%s: %s", name, line.text)


def before_trace(optimizer: Any) -> tuple[Any, ...]:
    """Returns what a trace depends on that the configuration of an optimizer does not tell.

    Args:
        optimizer: A `NewtonOptimizer` that is built.
    """
    held = optimizer._arguments
    return (
        sorted(held.values.items()),
        held.kind,
        held.decided,
        held.may_be_preconditioned,
        optimizer._averages_now,
        optimizer._several_batches,
        optimizer._last_step.dimension,
        optimizer._size,
    )


def of(optimizer: Any) -> Decisions:
    """Returns the decisions of the last trace of a `NewtonOptimizer`'s step."""
    held = optimizer._arguments
    return Decisions(
        held.kind,
        held.reason,
        optimizer._looks,
        optimizer._draws,
        optimizer._first_compiled_step,
        optimizer._said,
    )


def adopt(optimizer: Any, decisions: Decisions) -> None:
    """Has an optimizer be as if it had traced a step by itself, and say so in the log.

    Args:
        optimizer: One for which `before_trace` gives the same as for the one that traced.
        decisions: Of that one.
    """
    optimizer._arguments.adopt(decisions.kind, decisions.reason)
    optimizer._looks, optimizer._draws = decisions.looks, decisions.draws
    optimizer._first_compiled_step = decisions.first_compiled_step
    if not optimizer._said:
        say(optimizer.name, decisions.said)
    optimizer._said = decisions.said


def unsaved(optimizer: Any) -> list[keras.Variable]:
    """Returns the variables of a `NewtonOptimizer` beside those that it saves."""
    return [optimizer._last_step.variable, optimizer._slopes.variable]
