"""Trains a task with one optimizer for so many seconds, and keeps what it reached when."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import keras_sfn
from benchmarks.common import task as task_lib
from helpers import gradient_cost, timed_training
from keras_sfn.objective import rows as rows_lib

# Executions timed with and without XLA to find out which is faster; the median counts.
_TRIALS = 5

# `fit` is told of one endless epoch: each end of an epoch would cost it milliseconds.
_ENDLESS = 1_000_000_000


class Record(NamedTuple):
    """What was reached at one moment.

    Attributes:
        seconds: Of training; compilation is not counted, nor is the recording itself.
        steps: Taken so far.
        gradients: What these cost, in gradients of the whole training set.
        loss: On the whole training set, in inference mode.
        figure: The error that counts where the task has one, or else the loss.
    """

    seconds: float
    steps: int
    gradients: float
    loss: float
    figure: float


class Run(NamedTuple):
    """One training.

    Attributes:
        method: Name of the optimizer.
        settings: What tells this variant from others of the method.
        seed: Of the weights and the order of batches.
        xla: Whether XLA compiled the step; "auto" where the optimizer decides.
        first_step_seconds: Until the first step was done, compilation included.
        records: The first is from before training.
        kind: Of the steps, as our optimizer names it.
    """

    method: str
    settings: str
    seed: int
    xla: str
    first_step_seconds: float
    records: list[Record]
    kind: str = ""


class Budget(NamedTuple):
    """How long to train and how often to look.

    Attributes:
        seconds: Of training.
        points: Records after the first, at equal distances.
    """

    seconds: float
    points: int


def train_first_order(
    task: task_lib.Task,
    label: str,
    optimizer: keras.optimizers.Optimizer,
    batch_size: int,
    seed: int,
    budget: Budget,
    *,
    at_once: int,
    xla: bool,
) -> tuple[list[Record], float]:
    """Trains with an optimizer of Keras whose rate falls to zero over the budget.

    Args:
        task: What to train.
        label: Shown beside the progress.
        optimizer: With its initial learning rate.
        batch_size: Rows a step.
        seed: Of the weights and the order of batches.
        budget: Seconds and points.
        at_once: Steps that Keras takes before it returns to Python.
        xla: Whether XLA compiles the step.

    Returns:
        The records, and the seconds until the first steps were done.
    """
    model = task.build(seed)
    model.compile(optimizer, task.loss, steps_per_execution=at_once, jit_compile=xla)
    cost = gradient_cost.first_order_step(batch_size, task.rows)
    return _train(task, label, model, batch_size, seed, budget, cost, cosine=True)


def train_newton(
    task: task_lib.Task,
    label: str,
    optimizer: keras_sfn.SaddleFreeNewton,
    batch_size: int,
    seed: int,
    budget: Budget,
) -> tuple[list[Record], float]:
    """Trains with our optimizer; a run that it ends with an error keeps its records.

    Args:
        task: What to train.
        label: Shown beside the progress.
        optimizer: Ours, which can be asked afterwards for its last step.
        batch_size: Rows a step.
        seed: Of the weights and the order of batches.
        budget: Seconds and points.

    Returns:
        The records, and the seconds until the first step was done.
    """
    model = task.build(seed)
    model.compile(optimizer, task.loss)
    used = optimizer.options_in_use
    curvature_rows, directions = used["curvature_batch_size"], used["krylov_dimension"]
    # Where a step chooses both by itself, those of its first level: at least so many gradients.
    if curvature_rows == "auto":
        curvature_rows = batch_size // rows_lib.number_of_parts(batch_size)
    if directions is None:
        directions = used["preconditioned_directions"]
    cost = gradient_cost.newton_step(
        batch_size,
        min(curvature_rows or batch_size, batch_size),
        min(1 if directions == "auto" else directions, model.count_params()),
        task.rows,
        inner_steps=used["inner_steps"],
        use_previous_step=used["use_previous_step"],
        trials=3 if used["damping"] == "search" else 1,
        preconditioned=used["preconditioner"] is not None,
    )
    return _train(task, label, model, batch_size, seed, budget, cost, cosine=False)


def _train(
    task: task_lib.Task,
    label: str,
    model: keras.Model,
    batch_size: int,
    seed: int,
    budget: Budget,
    cost: float,
    cosine: bool,
) -> tuple[list[Record], float]:
    error = task.error
    measure = None if error is None else lambda: (error(model),)
    timer = timed_training.TimedTraining(
        label, task.inputs, *budget, cosine, targets=task.targets, measure=measure
    )
    try:
        _fit(model, batches(task, batch_size, seed), timer)
    except FloatingPointError as failure:
        print(f"{label} ended early: {failure}", flush=True)
    figures = timer.measurements or [(loss,) for _, _, loss in timer.records]
    records = [
        Record(seconds, steps, steps * cost, loss, figure)
        for (seconds, steps, loss), (figure,) in zip(timer.records, figures, strict=True)
    ]
    return records, timer.first_step_seconds


def _fit(
    model: keras.Model, data: tf.data.Dataset, callback: keras.callbacks.Callback, steps: int = 0
) -> None:
    # Keras warns that it will not shuffle what is a data set already.
    model.fit(
        data,
        steps_per_epoch=steps or _ENDLESS,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
    )


def batches(task: task_lib.Task, size: int, seed: int) -> tf.data.Dataset:
    """Returns endless batches of one size, in memory and in a new order each pass.

    Rows that fill no batch are left out of a pass. Rows are gathered a batch at a time: element by
    element, `shuffle` and `batch` would cost a small network's step as much again.
    """
    held = task.tensors()
    inputs, targets = held.inputs, held.targets
    if size == task.rows:
        return tf.data.Dataset.from_tensors((inputs, targets)).repeat()

    def order(epoch: tf.Tensor) -> tf.Tensor:
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        shuffled = tf.random.experimental.stateless_shuffle(tf.range(task.rows), key)
        return tf.reshape(shuffled[: task.rows // size * size], (-1, size))

    def gather(rows: tf.Tensor) -> tuple[Any, tf.Tensor]:
        found = tf.nest.map_structure(lambda part: tf.gather(part, rows), inputs)
        return found, found if targets is inputs else tf.gather(targets, rows)

    return tf.data.Dataset.counter().map(order).unbatch().map(gather).prefetch(2)


class _Clock(keras.callbacks.Callback):
    """Takes the time of every execution."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads it."""
        self.seconds.append(time.perf_counter() - self._start)


def xla_is_faster(
    task: task_lib.Task,
    make_optimizer: Callable[[], keras.optimizers.Optimizer],
    batch_size: int,
    at_once: int,
) -> bool:
    """Tells whether a first-order step takes less time with XLA, from a short trial of both."""
    medians = {}
    for xla in (False, True):
        model, clock = task.build(0), _Clock()
        model.compile(make_optimizer(), task.loss, steps_per_execution=at_once, jit_compile=xla)
        _fit(model, batches(task, batch_size, 0), clock, steps=at_once * (1 + _TRIALS))
        medians[xla] = float(np.median(clock.seconds[1:])) / at_once
    print(
        f"batch {batch_size}: {1e3 * medians[False]:.3g} ms a step, "
        f"with XLA {1e3 * medians[True]:.3g} ms",
        flush=True,
    )
    return medians[True] < medians[False]
