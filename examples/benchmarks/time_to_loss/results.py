"""Table, file and figure of `compare.py`."""

from __future__ import annotations

import csv
import math
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt

from benchmarks.common import measure
from benchmarks.time_to_loss.training_runs import Record, Run
from helpers import tables

HEADER = ("method", "settings", "seed", "xla", "first_step_seconds", *Record._fields)

# Label of an axis -> where a record lies on it.
Axes = Mapping[str, Callable[[Run, Record], float]]
COSTS: Axes = {
    "seconds of training": lambda run, record: record.seconds,
    "gradients of the whole training set": lambda run, record: record.gradients,
}


class Results:
    """The file with all runs, one line a record; each run is written when it ends.

    Args:
        path: The file.
        setup: One line that says what was trained; a file with another one is refused.
        made_with: Versions, written into a new file.
        resume: Whether to go on with a file that is there.

    Raises:
        SystemExit: The file is there though not to be resumed, or is of another setup.
    """

    def __init__(self, path: pathlib.Path, setup: str, made_with: str, resume: bool) -> None:
        self._path = path
        self.runs: list[Run] = []
        if not path.exists():
            tables.write_csv(path, HEADER, [], f"{made_with}\n# {setup}")
            return
        if not resume:
            sys.exit(
                f"{path} has results already. Add --resume to go on with them, or name another "
                "--output_dir."
            )
        _, found, *lines = path.read_text().splitlines()
        if found != f"# {setup}":
            sys.exit(f"{path} is of `{found[2:]}`, not of `{setup}`. Name another --output_dir.")
        self._read(lines)

    def _read(self, lines: Sequence[str]) -> None:
        for row in csv.DictReader(lines):
            numbers = [float(row[name]) for name in Record._fields]
            record = Record(numbers[0], int(numbers[1]), *numbers[2:])
            key = row["method"], row["settings"], int(row["seed"])
            if not self.runs or self.runs[-1][:3] != key:
                self.runs.append(Run(*key, row["xla"], float(row["first_step_seconds"]), []))
            self.runs[-1].records.append(record)

    def find(self, method: str, settings: str, seed: int) -> Run | None:
        """Returns a run, or None where there is none yet."""
        key = method, settings, seed
        return next((run for run in self.runs if run[:3] == key), None)

    def append(self, run: Run) -> None:
        """Keeps a run and writes it."""
        self.runs.append(run)
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file)
            for record in run.records:
                numbers = [f"{value:.8g}" for value in (run.first_step_seconds, *record)]
                writer.writerow([*run[:4], *numbers])


def final(run: Run) -> float:
    """Returns the figure at the end; infinite where it is not finite."""
    figure = run.records[-1].figure
    return figure if math.isfinite(figure) else math.inf


def median_final(runs: Sequence[Run]) -> float:
    """Returns the median of the figures at the end."""
    return float(np.median([final(run) for run in runs]))


def reached(run: Run, target: float) -> tuple[float, float]:
    """Returns seconds and gradients at which the figure first was the target; infinite if never.

    Between two records the logarithm of the figure is taken as a straight line.
    """
    for before, after in zip(run.records, run.records[1:], strict=False):
        if after.figure <= target:
            part = 1.0
            if target < before.figure < math.inf and after.figure > 0:
                part = math.log(before.figure / target) / math.log(before.figure / after.figure)
            seconds = before.seconds + part * (after.seconds - before.seconds)
            return seconds, before.gradients + part * (after.gradients - before.gradients)
    return math.inf, math.inf


def table(
    groups: Mapping[tuple[str, str], Sequence[Run]],
    adam: tuple[str, str],
    budget: float,
    figure: str,
) -> str:
    """Returns the Markdown table: one line an optimizer, against Adam's figure at the end.

    Args:
        groups: (method, settings) -> its runs, one a seed.
        adam: Key of the best Adam.
        budget: Seconds of each run.
        figure: What is compared, in words.
    """
    target = median_final(groups[adam])
    lines = [
        f"| optimizer | settings | {figure} at the end (range) | over Adam's | "
        "seconds to Adam's | of Adam's time | gradients to Adam's | steps | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, runs in groups.items():
        ends = [final(run) for run in runs]
        seconds, gradients = np.median([reached(run, target) for run in runs], axis=0)
        if key == adam:
            # That is how the target is defined.
            seconds = budget
            gradients = np.median([run.records[-1].gradients for run in runs])
        times = ["not reached", "-", "-"]
        if math.isfinite(seconds):
            times = [f"{seconds:.3g}", f"{seconds / budget:.2f}", f"{gradients:.0f}"]
        middle = median_final(runs)
        steps = int(np.median([run.records[-1].steps for run in runs]))
        cells = [
            *key,
            f"{middle:.3g} ({min(ends):.3g} to {max(ends):.3g})",
            f"{middle / target:.3g}",
            *times,
            str(steps),
            str(len(runs)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(
    path: pathlib.Path,
    groups: Mapping[tuple[str, str], Sequence[Run]],
    title: str,
    figure_name: str,
    made_with: str,
    axes: Axes = COSTS,
) -> None:
    """Draws the figure over what it costs: the median over seeds, and the range.

    Args:
        path: Of the picture.
        groups: (method, settings) -> its runs, one a seed.
        title: Above the panels.
        figure_name: What is drawn.
        made_with: Versions.
        axes: Two of them, a panel each.
    """
    figure, panels = plt.subplots(1, 2, figsize=(11, 5.4), sharey=True, layout="constrained")
    for panel, (label, cost) in zip(panels, axes.items(), strict=True):
        for (method, settings), runs in groups.items():
            axis, curves = _curves(runs, cost)
            middle = np.median(curves, axis=0)
            (line,) = panel.plot(axis, middle, label=f"{method}, {settings}")
            panel.fill_between(
                axis, curves.min(axis=0), curves.max(axis=0), color=line.get_color(), alpha=0.2
            )
        panel.set(yscale="log", xlabel=label)
        panel.grid(True, which="both", alpha=0.3)
    panels[0].set(ylabel=figure_name)
    # Settings can be long: below both panels, left of the footnote.
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, loc="outside lower left")
    figure.get_layout_engine().set(rect=(0, 0.05, 1, 0.95))
    figure.suptitle(title)
    measure.save_figure(path, figure, made_with)


def _curves(
    runs: Sequence[Run], cost: Callable[[Run, Record], float]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a common axis and the figure of each run there, shape (runs, points).

    A run that ended before the others stays where it was; one that diverged ends its curve.
    """
    places = [np.array([cost(run, record) for record in run.records]) for run in runs]
    axis = np.unique(np.concatenate(places))
    curves = []
    for run, place in zip(runs, places, strict=True):
        figures = np.array([record.figure for record in run.records])
        finite = np.isfinite(figures) & (figures > 0)
        logarithms = np.interp(axis, place[finite], np.log(figures[finite]))
        diverged = axis > place[finite][-1] if not finite[-1] else np.zeros_like(axis, bool)
        curves.append(np.where(diverged, np.nan, np.exp(logarithms)))
    return axis, np.array(curves)
