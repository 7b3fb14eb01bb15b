"""Tables and pictures of `char_rnn.py`."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib

from helpers import spectrum, tables

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_LOSS = "cross-entropy, nats per character, training set"


class Stage(NamedTuple):
    """One stretch of training and where it ended.

    Attributes:
        name: Shown in tables and pictures.
        records: (seconds, steps, loss on the training set), the first before any step.
        gradients_a_step: Cost of a step, in gradients of the whole training set.
        training: Loss on the training set with the weights at its end.
        validation: Loss on the validation part with the same weights.
        ritz: Spectrum of the Hessian there, or None where the loss is not finite.
    """

    name: str
    records: list[tuple[float, int, float]]
    gradients_a_step: float
    training: float
    validation: float
    ritz: spectrum.Spectrum | None


def write(output: pathlib.Path, stages: Sequence[Stage], threshold: float, data: str) -> None:
    """Writes all files into a folder and prints the summary.

    Args:
        output: The folder, which exists.
        stages: SGD until it stalls, then what went on from there.
        threshold: Eigenvalues below this are counted as negative.
        data: Name of the text, for the titles.
    """
    tables.write_csv(
        output / "losses.csv",
        ["stage", "seconds", "steps", "gradients", "training_loss"],
        (
            [stage.name, f"{s:.2f}", n, f"{n * stage.gradients_a_step:.5g}", f"{loss:.6g}"]
            for stage in stages
            for s, n, loss in stage.records
        ),
    )
    tables.write_csv(
        output / "spectrum.csv",
        ["stage", "ritz_value", "weight"],
        (
            [stage.name, f"{value:.6g}", f"{weight:.6g}"]
            for stage in stages
            if stage.ritz
            for value, weight in zip(*stage.ritz, strict=True)
        ),
    )
    summary = [_summary(stage, threshold) for stage in stages]
    tables.write_csv(output / "summary.csv", list(summary[0]), (row.values() for row in summary))
    _draw_losses(output / "loss.png", stages, data)
    _draw_spectra(output / "spectrum.png", stages, threshold, data)
    _print(summary)
    print(
        f"Results in {output}/: loss.png, spectrum.png, losses.csv, spectrum.csv, summary.csv",
        flush=True,
    )


def _summary(stage: Stage, threshold: float) -> dict[str, str]:
    seconds, steps, _ = stage.records[-1]
    ritz = stage.ritz
    return {
        "stage": stage.name,
        "seconds": f"{seconds:.1f}",
        "steps": str(steps),
        "gradients": f"{steps * stage.gradients_a_step:.4g}",
        "training_loss": f"{stage.training:.4f}",
        "validation_loss": f"{stage.validation:.4f}",
        "least_ritz_value": f"{ritz.values[0]:.4g}" if ritz else "nan",
        "largest_ritz_value": f"{ritz.values[-1]:.4g}" if ritz else "nan",
        "negative_ritz_values": str(ritz.count_below(threshold)) if ritz else "nan",
        "negative_fraction": f"{ritz.fraction_below(threshold):.3g}" if ritz else "nan",
    }


def _draw_losses(path: pathlib.Path, stages: Sequence[Stage], data: str) -> None:
    """Draws the loss against seconds and against gradients, both from SGD's plateau on."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
    plateau, *rest = stages
    labels = ("seconds of training", "gradients of the whole training set")
    for axes, label, costs in zip(panels, labels, ("seconds", "gradients"), strict=True):
        points = _against(plateau, costs)
        end = points[-1][0]
        axes.plot(
            *zip(*[(x - end, loss) for x, loss in points], strict=True),
            "k-",
            label="sgd until it stalls",
        )
        for stage in rest:
            axes.plot(*zip(*_against(stage, costs), strict=True), marker=".", label=stage.name)
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set_xlabel(f"{label}, from where sgd stalled")
        axes.grid(True, alpha=0.3)
    # The first epochs, from the loss of a guess downwards, would take most of the height.
    losses = [loss for stage in rest for _, _, loss in stage.records if math.isfinite(loss)]
    low, high = min([plateau.training, *losses]), plateau.training
    margin = 0.05 * high + (high - low)
    panels[0].set_ylim(low - 0.1 * margin, high + 0.6 * margin)
    panels[0].set_ylabel(_LOSS)
    panels[1].legend()
    figure.suptitle(f"Recurrent net, {data}")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _against(stage: Stage, costs: str) -> list[tuple[float, float]]:
    if costs == "seconds":
        return [(seconds, loss) for seconds, _, loss in stage.records]
    return [(steps * stage.gradients_a_step, loss) for _, steps, loss in stage.records]


def _draw_spectra(path: pathlib.Path, stages: Sequence[Stage], threshold: float, data: str) -> None:
    """Draws Ritz values with their weights, one panel a stage."""
    shown = [stage for stage in stages if stage.ritz]
    figure, panels = plt.subplots(
        len(shown),
        1,
        figsize=(8, 1.7 * len(shown) + 1),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, stage in zip(panels[:, 0], shown, strict=True):
        assert stage.ritz is not None
        values, weights = stage.ritz
        for part, color in ((values < threshold, "C3"), (values >= threshold, "C0")):
            axes.vlines(values[part], 1e-9, weights[part], color=color)
        axes.set_xscale("symlog", linthresh=max(-threshold, 1e-6))
        axes.set_yscale("log")
        axes.set_ylim(1e-9, 2)
        axes.set_title(f"{stage.name}: training loss {stage.training:.3f}", fontsize=9, loc="left")
    panels[-1, 0].set_xlabel(f"Ritz value of the Hessian (red: below {threshold:g})")
    figure.supylabel("weight: fraction of eigenvalues it stands for")
    figure.suptitle(f"Recurrent net, {data}")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _print(summary: Sequence[dict[str, str]]) -> None:
    widths = [
        max(len(key.replace("_", " ")), *(len(row[key]) for row in summary)) for key in summary[0]
    ]
    print()
    for row in [[key.replace("_", " ") for key in summary[0]], *(r.values() for r in summary)]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
