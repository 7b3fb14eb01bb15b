"""hessianlearn's low-rank saddle-free Newton on a task, by the clock, in its own environment."""

from __future__ import annotations

import json
import math
import pathlib
import tempfile
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks.common import task as task_lib
from benchmarks.peers import environments, training_file
from benchmarks.time_to_loss import poisson_network, training_runs

NAME = "hessianlearn"
LINE_SEARCH = "line_search"

_PROGRAM = pathlib.Path(environments.__file__).parent / "programs" / "hessianlearn_training.py"
# Of the line search, at most: its own five end on steps that raise the loss.
_TRIALS = 20


class Setting(NamedTuple):
    """What is tuned.

    Attributes:
        rank: Eigenvectors a step, two products each.
        damping: Added to the curvature.
        step: `LINE_SEARCH`, or the length of every step.
    """

    rank: int
    damping: float
    step: str

    def __str__(self) -> str:
        return f"rank {self.rank}, damping {self.damping:g}, step {self.step}"


class Rows(NamedTuple):
    """What a step looks at.

    Attributes:
        batch: Rows of gradient and line search.
        hessian: Rows of the products, the first of the batch.
    """

    batch: int
    hessian: int


def describe(task: task_lib.Task, model: keras.Model) -> training_file.Training:
    """Returns the task as the program reads it, with the weights that the model has.

    Raises:
        ValueError: The network has a layer that the program does not know.
    """
    return training_file.Training(
        layers=training_file.describe(model.layers),
        residual=isinstance(model, poisson_network.PoissonNetwork),
        weights=tuple(model.get_weights()),
        inputs=task.inputs,
        targets=task.targets,
    )


def train(
    task: task_lib.Task,
    label: str,
    setting: Setting,
    rows: Rows,
    seed: int,
    budget: training_runs.Budget,
    directory: pathlib.Path,
) -> tuple[list[training_runs.Record], float]:
    """Trains in a process of its own.

    Args:
        task: What to train.
        label: Shown when it begins.
        setting: Of the optimizer.
        rows: Of a step.
        seed: Of the weights and the batches.
        budget: Seconds and points.
        directory: Where the environments are.

    Returns:
        The records, and the seconds until the first step was done.

    Raises:
        ProgramError: The process failed.
    """
    model = task.build(seed)
    line_search = setting.step == LINE_SEARCH
    print(f"{label}: training for {budget.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        training, points = (pathlib.Path(folder) / name for name in ("training.npz", "points.npy"))
        training_file.write(training, describe(task, model))
        arguments: dict[str, Any] = {
            "repository": environments.repository_of(directory, NAME),
            "training": training,
            "budget": budget.seconds,
            "points": budget.points,
            "rank": setting.rank,
            "damping": setting.damping,
            "globalization": LINE_SEARCH if line_search else "fixed",
            "batch_rows": rows.batch,
            "hessian_rows": rows.hessian,
            "trials": _TRIALS,
            "seed": seed,
        }
        if not line_search:
            arguments["step"] = setting.step
        if task.error is not None:
            arguments["points_file"] = points
        command = [str(environments.python_of(directory, NAME)), str(_PROGRAM)]
        printed = environments.run(
            [*command, *(f"--{name}={value}" for name, value in arguments.items())]
        )
        # hessianlearn writes lines of its own between.
        lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        losses = [line for line in lines if "loss" in line]
        figures = [line["loss"] for line in losses]
        if task.error is not None:
            figures = [_error(task.error, model, point) for point in np.load(points)]
    records = [
        training_runs.Record(**line, figure=figure)
        for line, figure in zip(losses, figures, strict=True)
    ]
    first = [line["first_step_seconds"] for line in lines if "first_step_seconds" in line]
    return records, first[0] if first else math.nan


def _error(error: Any, model: keras.Model, point: np.ndarray) -> float:
    """Returns the figure that counts at a point of shape (n,)."""
    weights = model.get_weights()
    ends = np.cumsum([part.size for part in weights])[:-1]
    parts = np.split(point, ends)
    model.set_weights([part.reshape(w.shape) for part, w in zip(parts, weights, strict=True)])
    return float(error(model))
