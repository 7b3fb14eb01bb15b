"""A callback that ends training where it stalls, and keeps the best weights."""

from __future__ import annotations

import math
import time
from typing import Any

import keras
import numpy as np


class UntilStalled(keras.callbacks.Callback):
    """Ends training once the loss on fixed data hardly falls any more, or is not finite.

    Training has stalled when the lowest loss of the last `patience` epochs is not at least the
    fraction `improvement` below the lowest one before them. Afterwards the model has the weights of
    its lowest loss, so that what goes on from there does not start at a chance high.

    Args:
        name: Shown before the progress bar.
        inputs: Rows on which the loss is recorded.
        targets: Theirs.
        patience: Epochs.
        improvement: For example 0.01 for one percent.
        most_epochs: After so many training ends anyway.

    Attributes:
        records: List of (seconds, steps, loss), one before training and one after each epoch; the
            clock starts after the first epoch's compilation and stands still while it records.
        stalled: Whether training ended because it stalled.
    """

    def __init__(
        self,
        name: str,
        inputs: np.ndarray,
        targets: np.ndarray,
        patience: int,
        improvement: float,
        most_epochs: int,
    ) -> None:
        super().__init__()
        self.records: list[tuple[float, int, float]] = []
        self.stalled = False
        self._name = name
        self._data = inputs, targets
        self._patience = patience
        self._improvement = improvement
        self._most_epochs = most_epochs
        self._seconds = 0.0
        self._steps = 0
        self._start = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Records the loss before training."""
        print(f"{self._name}: at most {self._most_epochs} epochs until it stalls", flush=True)
        self._bar = keras.utils.Progbar(
            self._most_epochs, unit_name="epoch", stateful_metrics=["loss"]
        )
        self._record()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock after the first batch, whose step was compiled."""
        self._steps += 1
        if self._steps == 1:
            self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Records, shows progress, stops where training has stalled."""
        self._seconds += time.perf_counter() - self._start
        self._record()
        self._bar.update(epoch + 1, [("loss", self.records[-1][2])])
        losses = [loss for _, _, loss in self.records]
        recent, before = losses[-self._patience :], losses[: -self._patience]
        if not math.isfinite(losses[-1]):
            self.model.stop_training = True
        elif before and min(recent) > (1 - self._improvement) * min(before):
            self.stalled = True
            self.model.stop_training = True
        self._start = time.perf_counter()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the best weights."""
        print()  # The bar has no end of its own where training stops early.
        self.model.set_weights(self._weights)

    def _record(self) -> None:
        loss = float(self.model.evaluate(*self._data, batch_size=1024, verbose=0))
        if all(loss < earlier for _, _, earlier in self.records):
            self._weights = self.model.get_weights()
        self.records.append((self._seconds, self._steps, loss))
