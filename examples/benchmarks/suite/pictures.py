"""The pictures of the suite: curves of a task, and one page of all."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence

from matplotlib import pyplot as plt

from benchmarks.common import measure
from benchmarks.suite import contest as contest_lib
from benchmarks.suite import report
from benchmarks.suite import summary as summary_lib
from benchmarks.time_to_loss import results

_COLOURS = {"deterministic": "tab:blue", "mini-batch": "tab:orange"}

# What is asked for of deterministic tasks: at most this part of the best rival's time.
_GOAL = 0.33


def curves(
    path: pathlib.Path, groups: contest_lib.Groups, title: str, name: str, made_with: str
) -> None:
    """Draws the losses of a task over both clocks.

    Args:
        path: Of the picture.
        groups: What took part.
        title: Above the picture.
        name: Of the loss.
        made_with: Versions.
    """
    shown = {
        (each.method, each.settings or "defaults"): [contest_lib.by_loss(run) for run in runs]
        for each, runs in groups.items()
    }
    clocks = {
        "seconds after the first step": lambda run, record: record.seconds,
        "seconds with the first step": lambda run, record: (
            run.first_step_seconds + record.seconds if record.steps else 0.0
        ),
    }
    results.plot(path, shown, title, name, made_with, clocks)


def page(path: pathlib.Path, lines: Sequence[summary_lib.Summary], made_with: str) -> None:
    """Draws a bar a task: the part of the best rival's time that ours took to its loss."""
    figure, axes = plt.subplots(figsize=(8, 1.6 + 0.3 * len(lines)), layout="constrained")
    for place, line in enumerate(lines):
        reached = math.isfinite(line.time)
        # Never below the axis' end, where a logarithm has no place for it.
        width = max(line.time, 1e-3) if reached else 1.0
        axes.barh(
            place,
            width,
            color=_COLOURS[line.setup.kind] if reached else "none",
            edgecolor=_COLOURS[line.setup.kind],
            hatch=None if reached else "///",
        )
        text = f"{line.time:.2g}" if reached else f"{report.NOT_REACHED}: {line.over_rival:.2g} x"
        axes.annotate(text, (width, place), (4, 0), textcoords="offset points", va="center", size=8)
    names = [line.setup.task.replace("_", " ") for line in lines]
    axes.set_yticks(range(len(lines)), names)
    axes.invert_yaxis()
    axes.set(xscale="log", xlim=(1e-3, 4), xlabel="time to the best rival's loss, over its own")
    axes.axvline(1, color="black", linewidth=1)
    axes.axvline(_GOAL, color="grey", linewidth=1, linestyle="--")
    kinds = dict.fromkeys(line.setup.kind for line in lines)
    # Above, where there are no bars.
    figure.legend(
        [plt.Rectangle((0, 0), 1, 1, color=_COLOURS[kind]) for kind in kinds],
        list(kinds),
        loc="outside upper left",
        ncols=2,
        fontsize=8,
    )
    measure.save_figure(path, figure, made_with)
