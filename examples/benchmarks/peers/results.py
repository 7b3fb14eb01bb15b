"""Rows, table and figure of `compare.py`."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt

from benchmarks.common import measure
from benchmarks.peers import protocol
from helpers import tables

OURS = "keras_sfn"
# Which of the peers has no Lanczos, so that its Ritz values are others.
NO_LANCZOS = ("hessianlearn",)
# How far, of the largest Ritz value in size, the extreme ones of two that do the same may differ.
TOLERANCE = 1e-3
# The loss of orthogonality that a basis in single precision may have.
ORTHOGONALITY = float(np.finfo("float32").eps) ** 0.5


class Row(NamedTuple):
    """One peer on one problem.

    Attributes:
        network: Name of the network.
        parameters: Number n of its parameters.
        krylov_dimension: Number k that was asked for.
        peer: Who.
        products: Hessian-vector products of a run.
        seconds: Median of all runs but the first of each turn.
        least_seconds: Least of them.
        milliseconds_per_product: `seconds` over `products`.
        times_ours: `seconds` over those of keras_sfn.
        first_seconds: Median of the first runs, compilation included.
        smallest: Least Ritz value.
        largest: Greatest.
        difference: How far the two lie from those of keras_sfn, over the largest in size.
        orthogonality: max|Q Q' - I| of the basis.
        versions: With what.
    """

    network: str
    parameters: int
    krylov_dimension: int
    peer: str
    products: int
    seconds: float
    least_seconds: float
    milliseconds_per_product: float
    times_ours: float
    first_seconds: float
    smallest: float
    largest: float
    difference: float
    orthogonality: float
    versions: str


def rows(
    network: str,
    parameters: int,
    krylov_dimension: int,
    reports: Mapping[str, Sequence[protocol.Report]],
) -> list[Row]:
    """Returns a row for each peer.

    Args:
        network: Name of the network.
        parameters: Number of its parameters.
        krylov_dimension: Number of products.
        reports: Peer -> its reports, one a round, the first of which has the orthogonality.
            `OURS` is among them.
    """
    ours = reports[OURS][0]
    scale = max(abs(ours.smallest), abs(ours.largest))
    our_seconds = _median(reports[OURS])
    result = []
    for name, found in reports.items():
        first, seconds = found[0], _median(found)
        distances = (abs(first.smallest - ours.smallest), abs(first.largest - ours.largest))
        result.append(
            Row(
                network=network,
                parameters=parameters,
                krylov_dimension=krylov_dimension,
                peer=name,
                products=first.products,
                seconds=seconds,
                least_seconds=min(min(report.seconds) for report in found),
                milliseconds_per_product=1e3 * seconds / first.products,
                times_ours=seconds / our_seconds,
                first_seconds=float(np.median([report.first_seconds for report in found])),
                smallest=first.smallest,
                largest=first.largest,
                difference=float(np.max(distances)) / scale,
                orthogonality=np.nan if first.orthogonality is None else first.orthogonality,
                versions=first.versions,
            )
        )
    return result


def _median(reports: Sequence[protocol.Report]) -> float:
    return float(np.median([second for report in reports for second in report.seconds]))


def disagreements(found: Sequence[Row]) -> Iterator[str]:
    """Yields a line for each that should have found our extreme Ritz values and did not.

    And one for each whose basis is not orthonormal to the root of the precision, ours too.
    """
    for row in found:
        if row.orthogonality > ORTHOGONALITY:
            yield (
                f"{row.network}, k = {row.krylov_dimension}: the basis of {row.peer} has lost "
                f"orthogonality, max|QQ' - I| = {row.orthogonality:.1e}"
            )
        if row.peer not in NO_LANCZOS and not row.difference <= TOLERANCE:
            yield (
                f"{row.network}, k = {row.krylov_dimension}: the extreme Ritz values of {row.peer} "
                f"differ from ours by {row.difference:.1e} of the largest"
            )


def markdown(found: Sequence[Row]) -> str:
    """Returns the table for a document."""
    header = (
        "network",
        "n",
        "k",
        "who",
        "products",
        "seconds",
        "ms a product",
        "times ours",
        "first run, s",
        "Ritz values",
        "difference",
        "max\\|QQ' - I\\|",
    )
    lines = (
        (
            row.network,
            f"{row.parameters:,}",
            row.krylov_dimension,
            row.peer,
            row.products,
            f"{row.seconds:.3g}",
            f"{row.milliseconds_per_product:.3g}",
            f"{row.times_ours:.2f}",
            f"{row.first_seconds:.1f}",
            f"{row.smallest:.4g} to {row.largest:.4g}",
            f"{row.difference:.0e}",
            f"{row.orthogonality:.0e}",
        )
        for row in found
    )
    return tables.markdown(header, lines) + "\n"


def plot(path: pathlib.Path, found: Sequence[Row], made_with: str) -> None:
    """Draws milliseconds a product, a panel for each network and k."""
    cases = list(
        dict.fromkeys((row.network, row.parameters, row.krylov_dimension) for row in found)
    )
    figure, panels = plt.subplots(
        1, len(cases), figsize=(1.5 + 3 * len(cases), 3.5), squeeze=False, layout="constrained"
    )
    for axes, case in zip(panels[0], cases, strict=True):
        chosen = [
            row for row in found if (row.network, row.parameters, row.krylov_dimension) == case
        ]
        bars = axes.barh(
            [row.peer for row in chosen], [row.milliseconds_per_product for row in chosen]
        )
        axes.bar_label(bars, fmt="%.3g", padding=2)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.margins(x=0.25)
        axes.set(
            xlabel="milliseconds a product", title=f"{case[0]}, n = {case[1]:,}, k = {case[2]}"
        )
    for axes in panels[0][1:]:
        axes.set_yticklabels([])
    measure.save_figure(path, figure, made_with)


def write(output: pathlib.Path, found: Sequence[Row], made_with: str) -> None:
    """Writes peers.csv, peers.md and peers.png."""
    tables.write_csv(output / "peers.csv", Row._fields, found, made_with)
    versions = dict.fromkeys(f"{row.peer}: {row.versions}" for row in found)
    notes = "\n".join(f"- {line}" for line in (made_with, *versions))
    (output / "peers.md").write_text(f"{markdown(found)}\n{notes}\n")
    plot(output / "peers.png", found, made_with)
