r"""Trains the digits autoencoder with hessianlearn's low-rank saddle-free Newton over a grid.

    python examples/benchmarks/peers/make_environments.py --only=hessianlearn --hessianlearn=FOLDER
    python examples/benchmarks/peer_training.py

Each setting of the grid trains for --budget seconds from the weights of each seed, those of
`autoencoder.py`'s network with Glorot's initialisation, in the environment that the first command
makes. Written to --output_dir: training.csv, a line for each record, settings, versions and all;
training.md, the loss each setting ended at; training.png, the losses over seconds.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile
from collections.abc import Sequence

import measure
from absl import app, flags

_BENCHMARKS = pathlib.Path(__file__).parent
# The examples' network, and modules of the programs, which run without this folder too.
sys.path += [str(_BENCHMARKS.parent), str(_BENCHMARKS / "peers")]
import environments  # noqa: E402
import peer_grid  # noqa: E402

_HIDDEN = flags.DEFINE_list("hidden", ["256", "128", "64", "10"], "Units down to the code.")
_ROWS = flags.DEFINE_integer("rows", 1797, "Digits to train on.", lower_bound=1)
_BUDGET = flags.DEFINE_float("budget", 60, "Seconds of each training.", lower_bound=0.0)
_POINTS = flags.DEFINE_integer("points", 100, "Records of each.", lower_bound=1)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Of the weights.")
_RANKS = flags.DEFINE_list("ranks", ["10", "20", "40"], "Eigenvectors a step, two products each.")
_GLOBALIZATIONS = flags.DEFINE_multi_enum(
    "globalization", ["fixed", "line_search"], ["fixed", "line_search"], "Kinds of step."
)
_STEPS = flags.DEFINE_list("steps", ["0.001", "0.01", "0.1"], "Step lengths of `fixed`.")
_DAMPINGS = flags.DEFINE_list("dampings", ["0.001", "0.01", "0.1"], "Added to the curvature.")
_TRIALS = flags.DEFINE_integer("trials", 20, "Of the line search.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_rows", None, "Of the gradient; all without it.")
_HESSIAN = flags.DEFINE_integer("hessian_rows", None, "Of the products; the batch without it.")
_ENVIRONMENTS = flags.DEFINE_string(
    "environments", environments.DIRECTORY, "Where make_environments.py put them."
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/peer_training", "Where results go.")


def read_flags() -> peer_grid.Grid:
    """Returns what the flags say.

    Raises:
        ValueError: One is wrong, or the environment is not there.
    """
    directory = pathlib.Path(_ENVIRONMENTS.value)
    if missing := environments.lacks(directory, "hessianlearn"):
        raise ValueError(missing)
    options = [f"--points={_POINTS.value}", f"--trials={_TRIALS.value}"]
    for flag in (_BATCH, _HESSIAN):
        options += [] if flag.value is None else [f"--{flag.name}={flag.value}"]
    return peer_grid.Grid(
        hidden=peer_grid.integers(_HIDDEN.name, _HIDDEN.value),
        rows=_ROWS.value,
        budget=_BUDGET.value,
        seeds=peer_grid.integers(_SEEDS.name, _SEEDS.value),
        ranks=peer_grid.integers(_RANKS.name, _RANKS.value),
        globalizations=_GLOBALIZATIONS.value,
        steps=peer_grid.numbers(_STEPS.name, _STEPS.value),
        dampings=peer_grid.numbers(_DAMPINGS.name, _DAMPINGS.value),
        options=options,
        directory=directory,
    )


def main(argv: Sequence[str]) -> None:
    """Trains and writes the results."""
    if len(argv) > 1:
        sys.exit(f"Unknown arguments: {argv[1:]}. Every setting is a --flag.")
    try:
        grid = read_flags()
    except ValueError as error:
        sys.exit(str(error))
    output = measure.output_directory(_OUTPUT_DIR.value)
    try:
        with tempfile.TemporaryDirectory() as folder:
            peer_grid.run(grid, pathlib.Path(folder), output)
    except environments.ProgramError as error:
        sys.exit(str(error))
    print((output / "training.md").read_text())
    print(f"Results in {output}/: training.csv, training.md, training.png")


if __name__ == "__main__":
    app.run(main)
