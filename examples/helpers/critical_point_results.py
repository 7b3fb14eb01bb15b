"""What the search for critical points leaves: records, tables and pictures."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np

from helpers import tables

matplotlib.use("Agg")
from matplotlib import pyplot as plt

CRITICAL, NEAR, FAR = "critical", "near", "far"
KINDS = (CRITICAL, NEAR, FAR)
# A squared norm of 1e-8, which passes for critical in the literature.
NEAR_NORM = 1e-4
_LEVELS = ("high", "middle", "low")
_BINS = 60


class Record(NamedTuple):
    """One search.

    Attributes:
        training: Seed of the training along which it started.
        epoch: Of that training.
        start_loss: Loss where it started.
        start_gradient_norm: Norm of the gradient there.
        steps: Taken from there.
        seconds: Of the search.
        outcome: See `critical_point_search.Point`.
        kind: `"critical"`: the norm of the gradient is at most the tolerance; `"near"`: at most
            1e-4; or `"far"`.
        gradient_norm: Where the search ended.
        loss: There, with the penalty.
        error: There, the part of the training images that is not classified right.
        negative_share: There, the index: the part of the eigenvalues that are negative.
        smallest: There, the smallest eigenvalue.
        largest: There, the largest eigenvalue.
    """

    training: int
    epoch: int
    start_loss: float
    start_gradient_norm: float
    steps: int
    seconds: float
    outcome: str
    kind: str
    gradient_norm: float
    loss: float
    error: float
    negative_share: float
    smallest: float
    largest: float


class Found(NamedTuple):
    """A record, and the spectrum that goes with it: all eigenvalues, ascending."""

    record: Record
    eigenvalues: np.ndarray


def kind_of(gradient_norm: float, tolerance: float) -> str:
    """Tells critical points, points near to one and others apart."""
    if gradient_norm <= tolerance:
        return CRITICAL
    return NEAR if gradient_norm <= NEAR_NORM else FAR


def negative_share(eigenvalues: np.ndarray, zero: float) -> float:
    """Returns the part of eigenvalues that are negative.

    Args:
        eigenvalues: All of them.
        zero: Relative to the largest absolute one; what is nearer to 0 is not negative.
    """
    return float(np.mean(eigenvalues < -zero * np.abs(eigenvalues).max()))


def correlations(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns the correlation of values, and that of their ranks; NaN where one is constant."""
    return _correlation(x, y), _correlation(_ranks(x), _ranks(y))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns ranks from 0; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def levels(found: Sequence[Found]) -> dict[str, Found]:
    """Returns the points of highest, middle and lowest loss among those nearest to critical."""
    kinds = [kind for kind in KINDS if any(point.record.kind == kind for point in found)]
    best = [point for point in found if point.record.kind == kinds[0]]
    best.sort(key=lambda point: -point.record.loss)
    places = [0, len(best) // 2, len(best) - 1]
    return {level: best[place] for level, place in zip(_LEVELS, places, strict=True)}


def table(found: Sequence[Found]) -> str:
    """Returns how many searches ended how, and the correlation of index and error of each kind."""
    records = [point.record for point in found]
    rows = []
    for kind in KINDS:
        here = [record for record in records if record.kind == kind]
        shares, errors, losses = (
            np.array([getattr(record, name) for record in here])
            for name in ("negative_share", "error", "loss")
        )
        rows.append(
            [
                kind,
                len(here),
                len(here) / len(records),
                *correlations(shares, losses),
                *correlations(shares, errors),
            ]
        )
    header = ["kind", "points", "share", "index, loss", "(ranks)", "index, error", "(ranks)"]
    return tables.markdown(header, rows)


def write(folder: pathlib.Path, found: Sequence[Found], title: str) -> None:
    """Writes points.csv, spectra.csv, index.png and spectra.png into `folder`, which exists."""
    records = (map(_short, point.record) for point in found)
    tables.write_csv(folder / "points.csv", Record._fields, records)
    shown = levels(found)
    spectra = (
        map(_short, [level, point.record.loss, point.record.gradient_norm, float(value)])
        for level, point in shown.items()
        for value in point.eigenvalues
    )
    header = ["level", "loss", "gradient_norm", "eigenvalue"]
    tables.write_csv(folder / "spectra.csv", header, spectra)
    _draw_index(folder / "index.png", [point.record for point in found], title)
    _draw_spectra(folder / "spectra.png", shown, title)


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _draw_index(path: pathlib.Path, records: Sequence[Record], title: str) -> None:
    """Draws the loss and the error against the index, each kind of point in its own way."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for axes, name, scale in zip(panels, ("loss", "error"), (1, 100), strict=True):
        for kind, marker, color in zip(KINDS, "o^x", ("C0", "C1", "0.6"), strict=True):
            here = [record for record in records if record.kind == kind]
            shares = np.array([record.negative_share for record in here])
            heights = np.array([scale * getattr(record, name) for record in here])
            ranks = correlations(shares, heights)[1]
            label = f"{kind}: {len(here)} (rank correlation {ranks:.2f})"
            axes.plot(100 * shares, heights, marker, color=color, label=label, alpha=0.8)
        axes.set_xlabel("index: negative eigenvalues, %")
        axes.grid(True, alpha=0.3)
        axes.legend(fontsize=8)
    panels[0].set_ylabel("training loss")
    panels[1].set_ylabel("training error, %")
    figure.suptitle(title)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_spectra(path: pathlib.Path, shown: dict[str, Found], title: str) -> None:
    """Draws the numbers of eigenvalues in bins that all spectra share."""
    figure, panels = plt.subplots(
        len(shown), 1, figsize=(8, 6.5), sharex=True, sharey=True, layout="constrained"
    )
    values = np.concatenate([point.eigenvalues for point in shown.values()])
    bins = np.linspace(values.min(), values.max(), _BINS + 1)
    for axes, (level, (record, eigenvalues)) in zip(panels, shown.items(), strict=True):
        axes.hist(eigenvalues, bins=bins, log=True)
        axes.axvline(0, color="k", linewidth=0.8)
        axes.set_title(
            f"{level}: loss {record.loss:.3f}, error {record.error:.1%}, index "
            f"{record.negative_share:.1%}, {record.kind} (gradient {record.gradient_norm:.0e})",
            fontsize=9,
            loc="left",
        )
        axes.set_ylabel("eigenvalues")
    panels[-1].set_xlabel("eigenvalue of the Hessian")
    figure.suptitle(title)
    figure.savefig(path, dpi=100)
    plt.close(figure)
