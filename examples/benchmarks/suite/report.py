"""The tables of the suite, as Markdown and CSV."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping, Sequence

from benchmarks.suite import contest as contest_lib
from benchmarks.suite import contestants
from benchmarks.suite import summary as summary_lib
from helpers import tables

NOT_REACHED = "not reached"

_HEADER = (
    "task",
    "loss (range)",
    "best rival",
    "its loss",
    "over it",
    "of its time",
    "with first step",
    "first step, s",
    "steps",
    "kind of step",
    "second figure",
    "stuck",
)


def comparison(lines: Sequence[summary_lib.Summary]) -> str:
    """Returns the main table in Markdown: a line a task and variant of ours."""
    return tables.markdown(_HEADER, [_cells(line) for line in lines])


def _cells(line: summary_lib.Summary) -> list[str]:
    setup, ours, rival = line.setup, line.ours, line.rival
    variant = "" if ours.who == DEFAULTS else f", {ours.who}"
    error = f"{setup.figure}: {ours.error:.3g}, rival {rival.error:.3g}" if setup.figure else ""
    return [
        f"{setup.task}{variant}",
        f"{ours.loss:.3g} ({line.losses[0]:.3g} to {line.losses[-1]:.3g})",
        rival.who,
        f"{rival.loss:.3g}",
        f"{line.over_rival:.3g}",
        _share(line.time),
        _share(line.whole_time),
        f"{ours.first_step_seconds:.3g}, rival {rival.first_step_seconds:.3g}",
        f"{ours.steps:.0f}, rival {rival.steps:.0f}",
        line.step_kind,
        error,
        f"{line.stuck} of {ours.seeds}",
    ]


DEFAULTS = str(contestants.Contestant(contestants.OURS, ""))


def _share(part: float) -> str:
    return f"{part:.2f}" if math.isfinite(part) else NOT_REACHED


def all_losses(groups: Mapping[str, contest_lib.Groups]) -> str:
    """Returns a table in Markdown with the losses of all methods, a line a task.

    Of several variants of ours it has the first.

    Args:
        groups: Of each task.
    """
    rows = []
    for task, contest in groups.items():
        found: dict[str, float] = {}
        for each, runs in contest.items():
            found.setdefault(each.method, summary_lib.median_loss(runs))
        rows.append([task, *(found.get(method) for method in contestants.METHODS)])
    return tables.markdown(["task", *contestants.METHODS], rows)


def write_csv(path: pathlib.Path, lines: Sequence[summary_lib.Summary], made_with: str) -> None:
    """Writes the figures of the main table, each in a column of its own."""
    sides = [f"{who}_{name}" for who in ("ours", "rival") for name in summary_lib.Side._fields]
    header = [*summary_lib.Setup._fields, *sides, "lowest", "highest", "over_rival"]
    header += ["time", "whole_time", "step_kind", "stuck"]
    rows = [
        [
            *line.setup,
            *line.ours,
            *line.rival,
            line.losses[0],
            line.losses[-1],
            line.over_rival,
            line.time,
            line.whole_time,
            line.step_kind,
            line.stuck,
        ]
        for line in lines
    ]
    tables.write_csv(path, header, rows, made_with)
