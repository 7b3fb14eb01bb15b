"""Callbacks that train for so many seconds and record the loss against time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np


class TimedTraining(keras.callbacks.Callback):
    """Ends training after a time budget; records the loss on fixed data; shows one progress bar.

    The clock starts after the first batch, so that compilation is reported apart and not counted,
    and stands still while the loss is recorded.

    Args:
        name: Shown before the progress bar.
        inputs: Rows on which the loss is recorded.
        seconds: Training time.
        points: Number of records over the budget.
        cosine: Whether the learning rate falls to zero over the budget along half a cosine.
        targets: Those of the rows; None where they are the inputs (an autoencoder).
        measure: Called at each record, for what else is to be recorded.

    Attributes:
        records: List of (seconds, steps, loss).
        measurements: What `measure` returned at each of them; empty without it.
        first_step_seconds: Time until the first batch was done.
    """

    def __init__(
        self,
        name: str,
        inputs: Any,
        seconds: float,
        points: int,
        cosine: bool,
        targets: np.ndarray | None = None,
        measure: Callable[[], tuple[float, ...]] | None = None,
    ) -> None:
        super().__init__()
        self.records: list[tuple[float, int, float]] = []
        self.measurements: list[tuple[float, ...]] = []
        self.first_step_seconds = math.nan
        self._name = name
        self._data = inputs, inputs if targets is None else targets
        self._seconds = seconds
        self._marks = [seconds * (i + 1) / points for i in range(points)]
        self._cosine = cosine
        self._measure = measure
        self._steps = 0
        self._shown = 0
        self._base_rate = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Records the loss before training and starts the clock."""
        self._base_rate = float(self.model.optimizer.learning_rate)
        self._record(0.0)
        print(f"{self._name}: training for {self._seconds:g} s", flush=True)
        self._bar = keras.utils.Progbar(
            max(round(self._seconds), 1), unit_name="second", stateful_metrics=["steps", "loss"]
        )
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Records, shows progress, sets the learning rate, stops at the end of the budget."""
        self._steps += self.model.steps_per_execution
        now = time.perf_counter()
        if math.isnan(self.first_step_seconds):
            self.first_step_seconds = now - self._start
            self._start = now
            return
        spent = now - self._start
        if self._marks and spent >= self._marks[0]:
            while self._marks and spent >= self._marks[0]:
                self._marks.pop(0)
                self._record(spent)
            self._start += time.perf_counter() - now
        if int(spent) > self._shown < self._bar.target:
            self._show(min(int(spent), self._bar.target))
        if self._cosine:
            progress = min(spent / self._seconds, 1.0)
            rate = 0.5 * self._base_rate * (1 + math.cos(math.pi * progress))
            self.model.optimizer.learning_rate = rate
        if spent >= self._seconds:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Completes the progress bar."""
        self._show(self._bar.target, finalize=True)

    def _show(self, seconds: int, finalize: bool = False) -> None:
        self._shown = seconds
        values = [("steps", self._steps), ("loss", self._last_loss)]
        self._bar.update(seconds, values, finalize=finalize)

    def _record(self, seconds: float) -> None:
        self._last_loss = float(self.model.evaluate(*self._data, batch_size=1024, verbose=0))
        self.records.append((seconds, self._steps, self._last_loss))
        if self._measure is not None:
            self.measurements.append(self._measure())
