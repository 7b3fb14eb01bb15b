"""What an optimizer decides in Python while a step is traced, and says of it in the log.

A step that was traced for one model may be taken by another of the same kind (`fit.shared_steps`).
What the trace has left in the first optimizer, beside variables, is plain data, which the other
takes over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

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


@dataclasses.dataclass
class Decisions:
    """What is decided of the steps of one optimizer, apart from its `Arguments`.

    Attributes:
        averages: Whether the step that is traced next is of averaged gradients, where that follows
            from the batches.
        several_batches: Whether batches may differ.
        draws: Whether the loss draws random numbers.
        looks: Whether a step looks at the noise of its batch.
        first_compiled_step: From which step on XLA compiles.
        said: What the log said of the steps.
    """

    averages: bool = False
    several_batches: bool = False
    draws: bool = False
    looks: bool = False
    first_compiled_step: int = 0
    said: tuple[Line, ...] = ()

    def expect(self, count: int | None, noisy: bool | None) -> None:
        """Decides of which kind the next steps are, before one is traced.

        Steps on several batches are taken to be on noisy ones, until the first has looked.

        Args:
            count: Batches of an epoch, or None where that is not known.
            noisy: Whether batches were noisy, or None where none was looked at.
        """
        self.several_batches = count != 1
        noisy = count not in (None, 1) if noisy is None else noisy
        self.averages = noisy and (self.several_batches or self.draws)

    def compiles_within(self, taken: int, steps: int) -> bool:
        """Returns whether XLA is going to compile the step, where it did not from the first on.

        Args:
            taken: Steps so far.
            steps: Whether that will be in one of so many.
        """
        first = self.first_compiled_step
        if taken > first:
            self.first_compiled_step = 0
        return first > 0 and taken <= first < taken + steps


class Traced(NamedTuple):
    """What a trace has decided, for another optimizer that takes the steps that were traced.

    Attributes:
        kind: Of the steps.
        reason: Why directions are not preconditioned, or None.
        decisions: All else.
    """

    kind: arguments_lib.StepKind
    reason: str | None
    decisions: Decisions


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
