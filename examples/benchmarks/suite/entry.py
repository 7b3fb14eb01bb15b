"""What a module of `suite/tasks` gives: a task, and how it is trained."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import keras

from benchmarks.common import task as task_lib


class Form(NamedTuple):
    """In which form a task is made.

    Attributes:
        quick: Whether rows and widths are few, for tests.
        images: `"digits"`, made of scikit-learn's, or `"fashion_mnist"`.
        data_dir: Where TFDS keeps prepared sets; None for its own default.
    """

    quick: bool = False
    images: str = "digits"
    data_dir: str | None = None


@dataclasses.dataclass(frozen=True)
class Entry:
    """A task of the suite.

    Attributes:
        task: What is trained.
        deterministic: Whether a step of ours sees all rows, and its loss has nothing random.
        batch_size: Rows a step of ours; None for all.
        rival_batch_sizes: Rows a step of first-order optimizers; the first is tried first.
        rate: Of Adam, with which its search for the best begins.
        steps_at_once: Steps of first-order optimizers before Keras is back in Python.
    """

    task: task_lib.Task
    deterministic: bool
    batch_size: int | None
    rival_batch_sizes: tuple[int, ...]
    rate: float = 3e-3
    steps_at_once: int = 10

    @property
    def kind(self) -> str:
        """In words."""
        return "deterministic" if self.deterministic else "mini-batch"

    @property
    def second_figure(self) -> str:
        """What is recorded beside the loss; empty where that is nothing."""
        return self.task.figure if self.task.error is not None else ""

    @property
    def newton_rows(self) -> int:
        """Rows a step of ours."""
        return min(self.batch_size or self.task.rows, self.task.rows)

    @property
    def rival_rows(self) -> tuple[int, ...]:
        """Rows a step of first-order optimizers, each once."""
        sizes = (min(size, self.task.rows) for size in self.rival_batch_sizes)
        return tuple(dict.fromkeys(sizes))


def with_training_loss(task: task_lib.Task) -> task_lib.Task:
    """Returns the task with its loss in training mode, on all rows at once, as second figure.

    For networks that behave differently then: batch normalisation, dropout.
    """

    def error(model: keras.Model) -> float:
        values = [variable.value for variable in model.trainable_variables]
        return float(task.loss_at(model, values, training=True))

    return dataclasses.replace(task, figure="loss in training mode", error=error)
