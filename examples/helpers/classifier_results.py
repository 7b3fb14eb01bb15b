"""What the classifier's trainings leave: records, their table, CSV files and figures."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np

from helpers import random_search, tables

matplotlib.use("Agg")
from matplotlib import pyplot as plt


class Record(NamedTuple):
    """One point of one training.

    Attributes:
        units: Of the hidden layer.
        optimizer: Name of the method.
        epoch: Passes over the training set so far, for a gradient each.
        seconds: Of training so far.
        gradient_equivalents: What was computed so far, in gradients of the whole training set.
        error: Part of the training images that is not classified right.
        cross_entropy: Mean over the training images, in nats.
        most_negative_eigenvalue: Of the Hessian of the cross-entropy; NaN where it was not taken.
    """

    units: int
    optimizer: str
    epoch: int
    seconds: float
    gradient_equivalents: float
    error: float
    cross_entropy: float
    most_negative_eigenvalue: float = math.nan

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Orders by error, then by cross-entropy; what is not finite comes last."""
        return not math.isfinite(self.cross_entropy), self.error, self.cross_entropy


class DrawRecord(NamedTuple):
    """The best record of one draw of SGD."""

    units: int
    draw: random_search.Draw
    best: Record


def best(records: Sequence[Record]) -> Record:
    """Returns the record with the lowest error, among equals with the lowest cross-entropy."""
    return min(records, key=lambda record: record.rank)


def measure(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Returns the part that is misclassified, and the mean cross-entropy.

    Args:
        logits: Shape (rows, classes).
        labels: Shape (rows,).
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=1))
    right = shifted[np.arange(len(labels)), labels]
    return float(np.mean(logits.argmax(axis=1) != labels)), float(np.mean(log_sums - right))


def table(records: Sequence[Record], ends: Sequence[DrawRecord]) -> str:
    """Returns one line a training: its best point, and what it cost to the end."""
    lines = [
        f"{'units':>5}  {'optimizer':26}{'error':>8}{'cross-entropy':>15}{'epoch':>7}{'seconds':>9}"
        f"{'gradients':>11}{'lowest eigenvalue':>19}"
    ]
    for (units, name), training in trainings(records).items():
        found, last = best(training), training[-1]
        eigenvalues = [r.most_negative_eigenvalue for r in training]
        lowest = next((e for e in reversed(eigenvalues) if math.isfinite(e)), math.nan)
        lines.append(
            f"{units:5}  {name:26}{found.error:8.2%}{found.cross_entropy:15.3g}{found.epoch:7}"
            f"{last.seconds:9.1f}{last.gradient_equivalents:11.0f}{lowest:19.2g}"
        )
    for units in dict.fromkeys(end.units for end in ends):
        here = [end for end in ends if end.units == units]
        chosen = min(here, key=lambda end: end.best.rank)
        lines.append(f"{units} units, best of {len(here)} draws of sgd: {chosen.draw}")
    return "\n".join(lines)


def trainings(records: Sequence[Record]) -> dict[tuple[int, str], list[Record]]:
    """Returns the records by size and method, in their order."""
    found: dict[tuple[int, str], list[Record]] = {}
    for record in records:
        found.setdefault((record.units, record.optimizer), []).append(record)
    return found


def write(
    folder: pathlib.Path, records: Sequence[Record], ends: Sequence[DrawRecord], dataset: str
) -> None:
    """Writes history.csv, draws.csv and figures.png into `folder`, which exists."""
    history = (map(_short, record) for record in records)
    tables.write_csv(folder / "history.csv", Record._fields, history)
    figures = ("epoch", "error", "cross_entropy")
    draws = (
        map(_short, [end.units, *end.draw, *(getattr(end.best, name) for name in figures)])
        for end in ends
    )
    header = ["units", *random_search.Draw._fields, *figures]
    tables.write_csv(folder / "draws.csv", header, draws)
    plot(folder / "figures.png", records, dataset)


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def plot(path: pathlib.Path, records: Sequence[Record], dataset: str) -> None:
    """Draws error and cross-entropy against size and epochs, eigenvalues, and what it all cost."""
    figure, panels = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    by_training = trainings(records)
    names = list(dict.fromkeys(record.optimizer for record in records))
    largest = max(record.units for record in records)
    for color, name in enumerate(names):
        style = {"label": name, "marker": ".", "color": f"C{color}"}
        ends = [best(training) for (_, n), training in by_training.items() if n == name]
        units = [end.units for end in ends]
        panels[0, 0].plot(units, [100 * end.error for end in ends], **style)
        panels[1, 0].plot(units, [end.cross_entropy for end in ends], **style)
        training = by_training.get((largest, name), [])
        epochs = [r.epoch for r in training]
        panels[0, 1].plot(epochs, [100 * r.error for r in training], **style)
        panels[1, 1].plot(epochs, [r.cross_entropy for r in training], **style)
        taken = [r for r in training if math.isfinite(r.most_negative_eigenvalue)]
        sizes = [max(-r.most_negative_eigenvalue, 0) for r in taken]
        panels[0, 2].plot([r.epoch for r in taken], sizes, **style)
        work = [r.gradient_equivalents for r in training[1:]]
        panels[1, 2].plot(work, [r.cross_entropy for r in training[1:]], **style)
    for panel in panels[1]:
        panel.set_yscale("log")
    panels[0, 2].set_yscale("log")
    panels[1, 2].set_xscale("log")
    titles = {
        (0, 0): ("best error", "hidden units", "training error, %"),
        (1, 0): ("best cross-entropy", "hidden units", "training cross-entropy"),
        (0, 1): (f"error, {largest} units", "epochs", "training error, %"),
        (1, 1): (f"cross-entropy, {largest} units", "epochs", "training cross-entropy"),
        (0, 2): (f"curvature, {largest} units", "epochs", "|most negative eigenvalue|"),
        (1, 2): (f"cost, {largest} units", "gradient equivalents", "training cross-entropy"),
    }
    for place, (title, x, y) in titles.items():
        panels[place].set(title=title, xlabel=x, ylabel=y)
        panels[place].grid(True, alpha=0.3)
    panels[0, 0].legend()
    figure.suptitle(f"One hidden layer, {dataset}")
    figure.savefig(path, dpi=80)
    plt.close(figure)
