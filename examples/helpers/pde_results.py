"""Pictures and tables of trainings on an equation, and the comparison with published ones."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

from equations import equation as equation_lib
from equations import published
from helpers import pde_clock, tables

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Points along an edge of the pictures of a solution.
_SIDE = 101

Histories = Mapping[str, Sequence[pde_clock.Record]]


def picture_points(equation: equation_lib.Equation) -> np.ndarray:
    """Returns a grid of the domain, shape (side * side, 2), the second coordinate fastest."""
    axes = [
        np.linspace(low, high, _SIDE)
        for low, high in zip(equation.lower, equation.upper, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def draw_solutions(
    path: pathlib.Path, equation: equation_lib.Equation, values: Mapping[str, np.ndarray]
) -> None:
    """Draws the reference, and each run's solution and error.

    Args:
        path: Of the picture.
        equation: The equation.
        values: Run -> its solution at `picture_points`.
    """
    exact = equation.solution(picture_points(equation)).reshape(_SIDE, _SIDE)
    figure, panels = plt.subplots(
        len(values), 3, figsize=(11, 3.2 * len(values)), squeeze=False, layout="constrained"
    )
    for row, (name, found) in zip(panels, values.items(), strict=True):
        found = found.reshape(_SIDE, _SIDE)
        low, high = exact.min(), exact.max()
        for axes, image, title, limits in (
            (row[0], exact, "reference", (low, high)),
            (row[1], found, name, (low, high)),
            (row[2], np.abs(found - exact), "absolute error", (None, None)),
        ):
            shown = axes.imshow(
                image.T,
                origin="lower",
                aspect="auto",
                extent=(
                    equation.lower[0],
                    equation.upper[0],
                    equation.lower[1],
                    equation.upper[1],
                ),
                vmin=limits[0],
                vmax=limits[1],
            )
            figure.colorbar(shown, ax=axes)
            axes.set_title(title, fontsize=9)
            axes.set_xlabel(equation.coordinates[0])
            axes.set_ylabel(equation.coordinates[1])
    figure.suptitle(f"{equation.name}: {equation.statement}", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_curves(path: pathlib.Path, equation: equation_lib.Equation, histories: Histories) -> None:
    """Draws loss and error of each run over seconds."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, records in histories.items():
        seconds = [record.seconds for record in records]
        panels[0].plot(seconds, [record.loss for record in records], label=name)
        panels[1].plot(seconds, [record.relative_error for record in records], label=name)
    for axes, title in zip(panels, ("loss", "relative L2 error"), strict=True):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("seconds, with compilation")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(equation.name)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_history(path: pathlib.Path, histories: Histories, made_with: str) -> None:
    """Writes all records as CSV."""
    rows = [[name, *record] for name, records in histories.items() for record in records]
    tables.write_csv(path, ["run", *pde_clock.Record._fields], rows, made_with)


def summary(histories: Histories) -> str:
    """Returns a table in Markdown: each run's last record."""
    rows = [
        [
            name,
            round(records[0].seconds, 1),
            round(records[-1].seconds, 1),
            records[-1].steps,
            records[-1].loss,
            records[-1].rms_error,
            records[-1].relative_error,
        ]
        for name, records in histories.items()
    ]
    header = ["run", "first step, s", "seconds", "steps", "loss", "RMS error", "relative error"]
    return tables.markdown(header, rows)


def comparison(
    table: published.Table, read: Mapping[str, Sequence[float | None]], histories: Histories
) -> str:
    """Returns a table in Markdown: errors of runs and published ones at the same times.

    Args:
        table: What was published.
        read: Errors as `published.read` gives them, which take the place of those of the table.
        histories: Of the runs.
    """
    ours = {
        name: published.at_times([(r.seconds, float(getattr(r, table.figure))) for r in records])
        for name, records in histories.items()
    }
    ends = {name: float(getattr(r[-1], table.figure)) for name, r in histories.items()}
    rows: list[list[object]] = [
        [f"this run, {name}", *errors, ends[name]] for name, errors in ours.items()
    ]
    for name, errors in (read or table.errors).items():
        rows.append([f"{table.source}, {name}", *errors, None])
    for name, end in table.end.items():
        rows.append([f"{table.source}, {name}", *[None] * len(published.TIMES), end])
    times = [f"{seconds} s" for seconds in published.TIMES]
    return tables.markdown([table.figure.replace("_", " "), *times, "at the end"], rows)
