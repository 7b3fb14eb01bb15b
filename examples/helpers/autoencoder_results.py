"""Tables and pictures of `autoencoder.py`."""

from __future__ import annotations

import csv
import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import keras
import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# What is measured along with the loss, where it is.
MEASUREMENTS = ("gradient_norm", "lowest_ritz_value")


class Run(NamedTuple):
    """One training.

    Attributes:
        name: Of the optimizer, with its learning rate where several were tried.
        model: With the weights at its end.
        records: (seconds, steps, mean squared error on the training set).
        measurements: `MEASUREMENTS` at each record, or empty.
        gradients_a_step: Cost of a step, in gradients of the whole training set.
        first_step_seconds: Time until the first step was done.
    """

    name: str
    model: keras.Model
    records: list[tuple[float, int, float]]
    measurements: list[tuple[float, ...]]
    gradients_a_step: float
    first_step_seconds: float

    @property
    def loss(self) -> float:
        """The mean squared error at the end; infinite where it is not finite."""
        loss = self.records[-1][2]
        return loss if math.isfinite(loss) else math.inf


def write_losses(path: pathlib.Path, runs: Sequence[Run], pixels: int) -> None:
    """Writes one line a record."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        header = ["optimizer", "seconds", "steps", "gradients", "mean_squared_error"]
        writer.writerow([*header, "sum_over_pixels", *MEASUREMENTS])
        for run in runs:
            none = [("",) * len(MEASUREMENTS)] * len(run.records)
            for (seconds, steps, loss), measured in zip(
                run.records, run.measurements or none, strict=True
            ):
                cost = steps * run.gradients_a_step
                row = [run.name, f"{seconds:.3f}", steps, f"{cost:.5g}", f"{loss:.8g}"]
                writer.writerow([*row, f"{loss * pixels:.8g}", *measured])


def plot_losses(path: pathlib.Path, runs: Sequence[Run], title: str, pixels: int) -> None:
    """Draws the loss against time and against gradients, one curve a run."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
    for run in runs:
        seconds, steps, losses = (np.array(c) for c in zip(*run.records, strict=True))
        panels[0].plot(seconds, losses, marker=".", label=run.name)
        panels[1].plot(steps * run.gradients_a_step, losses, marker=".")
    panels[0].set_ylabel("mean squared error, whole training set")
    panels[0].set_xlabel("seconds of training")
    panels[1].set_xlabel("gradients of the whole training set")
    panels[0].set_yscale("log")
    right = panels[1].secondary_yaxis(
        "right", functions=(lambda y: y * pixels, lambda y: y / pixels)
    )
    right.set_ylabel("summed over pixels")
    for axes in panels:
        axes.grid(True, which="both", alpha=0.3)
    panels[0].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_measurements(path: pathlib.Path, runs: Sequence[Run], title: str) -> None:
    """Draws the gradient norm and the size of the most negative Ritz value against time."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for run in runs:
        seconds = [s for s, _, _ in run.records]
        norms, lowest = (np.array(c) for c in zip(*run.measurements, strict=True))
        panels[0].plot(seconds, norms, marker=".", label=run.name)
        panels[1].plot(seconds, np.maximum(-lowest, 0), marker=".")
    panels[0].set_ylabel("norm of the gradient")
    panels[1].set_ylabel("size of the most negative Ritz value")
    panels[0].set_yscale("log")
    panels[1].set_yscale("symlog", linthresh=1e-4)
    for axes in panels:
        axes.set_xlabel("seconds of training")
        axes.grid(True, which="both", alpha=0.3)
    panels[0].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_reconstructions(
    path: pathlib.Path, images: np.ndarray, shape: tuple[int, ...], runs: Sequence[Run]
) -> None:
    """Draws ten test images above what each network makes of them."""
    rows = {"image": images}
    rows.update({run.name: run.model.predict(images, verbose=0) for run in runs})
    figure, grid = plt.subplots(
        len(rows), len(images), figsize=(len(images) * 0.8, len(rows) * 0.95), squeeze=False
    )
    for line, (name, pictures) in zip(grid, rows.items(), strict=True):
        line[0].set_title(name, loc="left", fontsize=8)
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(np.clip(picture.reshape(shape), 0, 1), cmap="gray", vmin=0, vmax=1)
            axes.axis("off")
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def print_summary(runs: Sequence[Run], pixels: int, start: float | None) -> None:
    """Prints one line a run.

    Args:
        runs: All of them.
        pixels: Of an image.
        start: Loss at the common start from which the fall is counted, or None.
    """
    fall = f"{'fall':>8}" if start is not None else ""
    print(
        f"\n{'optimizer':28}{'first step':>12}{'steps':>8}{'gradients':>11}{'final loss':>12}"
        f"{'sum over pixels':>17}{fall}"
    )
    for run in runs:
        _, steps, loss = run.records[-1]
        fall = f"{100 * (1 - loss / start):7.1f}%" if start is not None else ""
        print(
            f"{run.name:28}{run.first_step_seconds:10.1f} s{steps:8}"
            f"{steps * run.gradients_a_step:11.0f}{loss:12.6f}{loss * pixels:17.4f}{fall}"
        )
