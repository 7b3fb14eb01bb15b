"""When a training of a physics-informed network ends, and what is recorded of it."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import keras

from helpers import pde_problem


class Record(NamedTuple):
    """A line of the history of a run.

    Attributes:
        method: Which trained at that time.
        seconds: Since the start, with compilation and without the time that records take.
        steps: So many were taken.
        loss: At the last step, before it.
        rms_error: Of the solution.
        relative_error: The same over the root mean square of the solution.
    """

    method: str
    seconds: float
    steps: int
    loss: float
    rms_error: float
    relative_error: float


class Limits(NamedTuple):
    """When a training ends, and how often it is recorded.

    Attributes:
        seconds: The whole chain's.
        first_seconds: Of each part of a chain but the last.
        steps: Most steps of each part, or None.
        records: Per factor of ten in time.
        jit_compile: Of our optimizers.
        adam_rate: Learning rate of Adam.
    """

    seconds: float
    first_seconds: float = 10.0
    steps: int | None = None
    records: int = 10
    jit_compile: bool | str = "auto"
    adam_rate: float = 1e-3


class Clock:
    """Records a run and says when it is over.

    Args:
        problem: What is trained.
        name: Of the run, for the progress bar.
        limits: When it ends.

    Attributes:
        records: So far.
    """

    def __init__(self, problem: pde_problem.Problem, name: str, limits: Limits) -> None:
        self.records: list[Record] = []
        self._problem, self._limits = problem, limits
        self._start = time.perf_counter()
        self._paused = 0.0
        self._steps = 0
        self._next = 0.0
        print(f"{name}: training for at most {limits.seconds:g} s", flush=True)
        self._bar = keras.utils.Progbar(
            max(math.ceil(limits.seconds), 1),
            unit_name="second",
            stateful_metrics=["loss", "error"],
        )

    def begin(self, method: str, seconds: float) -> None:
        """Starts a part of the run, which ends when so many seconds have passed in all."""
        self._method, self._end, self._begun = method, seconds, self._steps

    def __call__(self, loss: float, steps: int = 1) -> bool:
        """Counts steps; returns whether the part goes on.

        Args:
            loss: Before the last of them.
            steps: How many.
        """
        self._steps += steps
        self._loss = loss
        seconds = self._seconds()
        allowed = self._limits.steps
        over = seconds >= self._end or not math.isfinite(loss)
        over |= allowed is not None and self._steps - self._begun >= allowed
        if over or seconds >= self._next:
            self._record(seconds, loss)
            self._next = max(seconds, 0.1) * 10 ** (1 / self._limits.records)
        return not over

    def end(self) -> None:
        """Records where a part ended by itself."""
        if self.records[-1].steps < self._steps:
            self._record(self._seconds(), self._loss)

    def finish(self) -> None:
        """Completes the progress bar."""
        self._bar.update(self._bar.target, self._shown(), finalize=True)

    def _seconds(self) -> float:
        return time.perf_counter() - self._start - self._paused

    def _record(self, seconds: float, loss: float) -> None:
        begin = time.perf_counter()
        self.records.append(
            Record(self._method, seconds, self._steps, loss, *self._problem.errors())
        )
        self._bar.update(min(int(seconds), self._bar.target), self._shown())
        self._paused += time.perf_counter() - begin

    def _shown(self) -> list[tuple[str, float]]:
        last = self.records[-1]
        return [("loss", last.loss), ("error", last.rms_error)]
