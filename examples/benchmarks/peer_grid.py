"""The grid of settings that `peer_training.py` trains, its records, tables and figure."""

from __future__ import annotations

import itertools
import json
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import autoencoder_network
import environments
import measure
import numpy as np
import peer_protocol
import sklearn.datasets
from matplotlib import pyplot as plt

_PROGRAM = pathlib.Path(__file__).parent / "peers" / "hessianlearn_training.py"


class Grid(NamedTuple):
    """What is trained.

    Attributes:
        hidden: Units of the layers down to the code.
        rows: Digits to train on.
        budget: Seconds of each training.
        seeds: Of the weights and the batches.
        ranks: Eigenvectors a step.
        globalizations: Kinds of step: fixed, line_search.
        steps: Step lengths of `fixed`.
        dampings: Added to the curvature.
        options: Further arguments of the program.
        directory: Where the environments are.
    """

    hidden: Sequence[int]
    rows: int
    budget: float
    seeds: Sequence[int]
    ranks: Sequence[int]
    globalizations: Sequence[str]
    steps: Sequence[float]
    dampings: Sequence[float]
    options: Sequence[str]
    directory: pathlib.Path


class Setting(NamedTuple):
    """One of the grid; `step` is without effect where a line search finds it."""

    rank: int
    globalization: str
    step: float
    damping: float


class Record(NamedTuple):
    """The loss at one time of one training."""

    rank: int
    globalization: str
    step: float
    damping: float
    seed: int
    first_step_seconds: float
    seconds: float
    steps: int
    gradients: float
    loss: float
    versions: str


def integers(flag: str, values: Sequence[str]) -> list[int]:
    """Returns what a flag lists as integers.

    Raises:
        ValueError: One is none, or there is none at all.
    """
    if not values or not all(value.isdigit() for value in values):
        raise ValueError(f"--{flag}={','.join(values)} must be integers >= 0, as 1,2.")
    return [int(value) for value in values]


def numbers(flag: str, values: Sequence[str]) -> list[float]:
    """Returns what a flag lists as positive numbers.

    Raises:
        ValueError: One is none, or there is none at all.
    """
    try:
        found = [float(value) for value in values]
    except ValueError:
        found = []
    if not found or not all(0 < number < math.inf for number in found):
        raise ValueError(f"--{flag}={','.join(values)} must be positive numbers, as 0.01,0.1.")
    return found


def settings(grid: Grid) -> Iterator[Setting]:
    """Yields the settings."""
    kinds = itertools.product(grid.ranks, grid.globalizations, grid.dampings)
    for rank, globalization, damping in kinds:
        for step in grid.steps if globalization == "fixed" else [1.0]:
            yield Setting(rank, globalization, step, damping)


def write_problem(path: pathlib.Path, grid: Grid, seed: int) -> None:
    """Writes the digits and the weights of a seed."""
    pixels = (sklearn.datasets.load_digits().data[: grid.rows] / 16).astype("float32")
    model = autoencoder_network.build_autoencoder(64, grid.hidden, "tanh", "glorot_uniform", seed)
    weights = model.get_weights()
    problem = peer_protocol.Problem(
        kernels=tuple(weights[::2]),
        biases=tuple(weights[1::2]),
        tanh=tuple(layer.activation.__name__ == "tanh" for layer in model.layers),
        inputs=pixels,
        start=np.zeros(model.count_params(), "float32"),
    )
    peer_protocol.write_problem(path, problem)


def train(grid: Grid, setting: Setting, seed: int, problem: pathlib.Path) -> list[Record]:
    """Trains once, in a process.

    Raises:
        ProgramError: It failed.
    """
    command = [str(environments.python_of(grid.directory, "hessianlearn")), str(_PROGRAM)]
    command += [f"--repository={environments.repository_of(grid.directory, 'hessianlearn')}"]
    command += [f"--problem={problem}", f"--budget={grid.budget}", f"--seed={seed}"]
    command += [f"--{name}={value}" for name, value in setting._asdict().items()]
    command += grid.options
    # hessianlearn writes lines of its own between.
    printed = environments.run(command).splitlines()
    lines = [json.loads(line) for line in printed if line.startswith("{")]
    known: dict[str, Any] = {}
    for line in lines:
        known |= {name: line[name] for name in ("versions", "first_step_seconds") if name in line}
    fields = ("seconds", "steps", "gradients", "loss")
    return [
        Record(
            **setting._asdict(),
            seed=seed,
            first_step_seconds=known.get("first_step_seconds", math.nan),
            versions=known["versions"],
            **{name: line[name] for name in fields},
        )
        for line in lines
        if "loss" in line
    ]


def last_losses(records: Sequence[Record]) -> dict[Setting, float]:
    """Returns the median over seeds of the loss each setting ended at, the best first."""
    last = {(Setting(*record[:4]), record.seed): record.loss for record in records}
    settings = dict.fromkeys(setting for setting, _ in last)
    medians = {
        setting: float(np.median([loss for (other, _), loss in last.items() if other == setting]))
        for setting in settings
    }
    # A loss that is no number comes last.
    return dict(sorted(medians.items(), key=lambda item: (math.isnan(item[1]), item[1])))


def plot(path: pathlib.Path, records: Sequence[Record], made_with: str) -> None:
    """Draws the losses of the five best settings over seconds, a line for each seed."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for index, setting in enumerate(list(last_losses(records))[:5]):
        chosen = [record for record in records if Setting(*record[:4]) == setting]
        for seed in dict.fromkeys(record.seed for record in chosen):
            points = [(r.seconds, r.loss) for r in chosen if r.seed == seed]
            label = ", ".join(map(str, setting)) if seed == chosen[0].seed else None
            axes.plot(*zip(*points, strict=True), color=f"C{index}", lw=1, label=label)
    axes.set(xlabel="seconds", ylabel="mean squared error", yscale="log")
    axes.legend(title=", ".join(Setting._fields), fontsize="small")
    measure.save_figure(path, figure, made_with)


def write(output: pathlib.Path, grid: Grid, records: Sequence[Record]) -> None:
    """Writes training.csv, training.md and training.png."""
    made_with = f"{records[-1].versions}, {measure.versions([]).split(', ')[-1]}"
    measure.write_csv(output / "training.csv", Record._fields, records, made_with)
    rows = [(*map(str, setting), f"{loss:.3e}") for setting, loss in last_losses(records).items()]
    header = (*Setting._fields, f"loss after {grid.budget:g} s, median over seeds")
    lines = [header, ("---",) * len(header), *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    (output / "training.md").write_text(f"{table}\n\n- {made_with}\n")
    plot(output / "training.png", records, made_with)


def run(grid: Grid, folder: pathlib.Path, output: pathlib.Path) -> None:
    """Trains every setting from every seed; writes the results anew after each.

    Args:
        grid: What to train.
        folder: Where the problems are written.
        output: Where the results go.

    Raises:
        ProgramError: A training failed.
    """
    records: list[Record] = []
    for seed in grid.seeds:
        problem = folder / f"{seed}.npz"
        write_problem(problem, grid, seed)
        for setting in settings(grid):
            records += train(grid, setting, seed, problem)
            print(f"seed {seed}, {setting}: {records[-1].loss:.3e}", flush=True)
            write(output, grid, records)
