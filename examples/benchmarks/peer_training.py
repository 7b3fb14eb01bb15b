r"""Trains the digits autoencoder with hessianlearn's low-rank saddle-free Newton over a grid.

    python examples/benchmarks/peers/make_environments.py --only=hessianlearn --hessianlearn=FOLDER
    python examples/benchmarks/peer_training.py

Each setting of the grid trains for --budget seconds from the weights of each seed, those of
`autoencoder.py`'s network with Glorot's initialisation, in the environment that the first command
makes. Written to --output_dir: training.csv, a line for each record, settings, versions and all;
training.md, the loss each setting ended at; training.png, the losses over seconds.
"""

from __future__ import annotations

import itertools
import json
import math
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import measure
import numpy as np
import sklearn.datasets
from absl import app, flags
from matplotlib import pyplot as plt

_BENCHMARKS = pathlib.Path(__file__).parent
_PROGRAM = _BENCHMARKS / "peers" / "hessianlearn_training.py"
# The examples' network, and modules of the programs, which run without this folder too.
sys.path += [str(_BENCHMARKS.parent), str(_BENCHMARKS / "peers")]
import autoencoder_network  # noqa: E402
import environments  # noqa: E402
import peer_protocol  # noqa: E402

_HIDDEN = flags.DEFINE_list("hidden", ["256", "128", "64", "10"], "Units down to the code.")
_ROWS = flags.DEFINE_integer("rows", 1797, "Digits to train on.", lower_bound=1)
_BUDGET = flags.DEFINE_float("budget", 60, "Seconds of each training.", lower_bound=0.0)
_POINTS = flags.DEFINE_integer("points", 100, "Records of each.", lower_bound=1)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Of the weights.")
_RANKS = flags.DEFINE_list("ranks", ["10", "20", "40"], "Eigenvectors a step, two products each.")
_GLOBALIZATIONS = flags.DEFINE_list("globalizations", ["fixed", "line_search"], "Kinds of step.")
_STEPS = flags.DEFINE_list("steps", ["0.001", "0.01", "0.1"], "Step lengths of `fixed`.")
_DAMPINGS = flags.DEFINE_list("dampings", ["0.001", "0.01", "0.1"], "Added to the curvature.")
_TRIALS = flags.DEFINE_integer("trials", 20, "Of the line search.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_rows", None, "Of the gradient; all without it.")
_HESSIAN = flags.DEFINE_integer("hessian_rows", None, "Of the products; the batch without it.")
_ENVIRONMENTS = flags.DEFINE_string(
    "environments", environments.DIRECTORY, "Where make_environments.py put them."
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/peer_training", "Where results go.")


class Setting(NamedTuple):
    """One of the grid; `step` is without effect where a line search finds it."""

    rank: str
    globalization: str
    step: str
    damping: str


class Record(NamedTuple):
    """The loss at one time of one training."""

    rank: str
    globalization: str
    step: str
    damping: str
    seed: str
    first_step_seconds: float
    seconds: float
    steps: int
    gradients: float
    loss: float
    versions: str


def grid() -> Iterator[Setting]:
    """Yields the settings."""
    for rank, globalization, damping in itertools.product(
        _RANKS.value, _GLOBALIZATIONS.value, _DAMPINGS.value
    ):
        for step in _STEPS.value if globalization == "fixed" else ["1"]:
            yield Setting(rank, globalization, step, damping)


def write_problem(path: pathlib.Path, seed: int) -> None:
    """Writes the digits and the weights of a seed."""
    pixels = (sklearn.datasets.load_digits().data[: _ROWS.value] / 16).astype("float32")
    hidden = [int(width) for width in _HIDDEN.value]
    model = autoencoder_network.build_autoencoder(64, hidden, "tanh", "glorot_uniform", seed)
    weights = model.get_weights()
    problem = peer_protocol.Problem(
        kernels=tuple(weights[::2]),
        biases=tuple(weights[1::2]),
        tanh=tuple(layer.activation.__name__ == "tanh" for layer in model.layers),
        inputs=pixels,
        start=np.zeros(model.count_params(), "float32"),
    )
    peer_protocol.write_problem(path, problem)


def train(setting: Setting, seed: str, problem: pathlib.Path) -> list[Record]:
    """Trains once, in a process.

    Raises:
        ProgramError: It failed.
    """
    directory = pathlib.Path(_ENVIRONMENTS.value)
    command = [str(environments.python_of(directory, "hessianlearn")), str(_PROGRAM)]
    command += [f"--repository={environments.repository_of(directory, 'hessianlearn')}"]
    command += [f"--problem={problem}", f"--budget={_BUDGET.value}", f"--points={_POINTS.value}"]
    command += [f"--{name}={value}" for name, value in setting._asdict().items()]
    command += [f"--trials={_TRIALS.value}", f"--seed={seed}"]
    for flag in (_BATCH, _HESSIAN):
        command += [] if flag.value is None else [f"--{flag.name}={flag.value}"]
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
            label = ", ".join(setting) if seed == chosen[0].seed else None
            axes.plot(*zip(*points, strict=True), color=f"C{index}", lw=1, label=label)
    axes.set(xlabel="seconds", ylabel="mean squared error", yscale="log")
    axes.legend(title=", ".join(Setting._fields), fontsize="small")
    measure.save_figure(path, figure, made_with)


def write(output: pathlib.Path, records: Sequence[Record]) -> None:
    """Writes training.csv, training.md and training.png."""
    made_with = f"{records[-1].versions}, {measure.versions([]).split(', ')[-1]}"
    measure.write_csv(output / "training.csv", Record._fields, records, made_with)
    rows = [(*setting, f"{loss:.3e}") for setting, loss in last_losses(records).items()]
    header = (*Setting._fields, f"loss after {_BUDGET.value:g} s, median over seeds")
    lines = [header, ("---",) * len(header), *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    (output / "training.md").write_text(f"{table}\n\n- {made_with}\n")
    plot(output / "training.png", records, made_with)


def main(argv: Sequence[str]) -> None:
    """Trains and writes the results, anew after each training."""
    if len(argv) > 1:
        sys.exit(f"Unknown arguments: {argv[1:]}. Every setting is a --flag.")
    for flag in (_HIDDEN, _SEEDS, _RANKS):
        if not flag.value or not all(number.isdigit() for number in flag.value):
            sys.exit(f"--{flag.name}={','.join(flag.value)} must be integers >= 0.")
    if missing := environments.lacks(pathlib.Path(_ENVIRONMENTS.value), "hessianlearn"):
        sys.exit(missing)
    output = measure.output_directory(_OUTPUT_DIR.value)
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in _SEEDS.value:
            problem = pathlib.Path(folder, f"{seed}.npz")
            write_problem(problem, int(seed))
            for setting in grid():
                try:
                    records += train(setting, seed, problem)
                except environments.ProgramError as error:
                    sys.exit(str(error))
                print(f"seed {seed}, {setting}: {records[-1].loss:.3e}", flush=True)
                write(output, records)
    print((output / "training.md").read_text())
    print(f"Results in {output}/: training.csv, training.md, training.png")


if __name__ == "__main__":
    app.run(main)
