r"""Lanczos of keras_sfn against that of other projects: the same function, start and products.

    python examples/benchmarks/peers/make_environments.py \
        --spectral_density=FOLDER --hessianlearn=FOLDER
    python examples/benchmarks/peers/compare.py --networks=digits,paper

Each runs in a process and an environment of its own, which the first command makes. All read the
same problem from a file: the mean squared error of a tanh autoencoder with seeded weights on a
seeded batch, in float32; all start from the same vector and take the same number of products. In
each of --rounds they take turns. Written to --output_dir: peers.csv, peers.md, peers.png.
--quick runs keras_sfn alone, on a small network.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

from absl import app, flags

from benchmarks.peers import environments, results, runs
from helpers import command_line

_THEIRS = [name for name in runs.PEERS if name != results.OURS]

_NETWORKS = flags.DEFINE_list("networks", ["digits"], f"Some of {', '.join(runs.NETWORKS)}.")
_PEERS = flags.DEFINE_list(
    "peers", _THEIRS, f"Some of {', '.join(_THEIRS)}; keras_sfn always runs."
)
_KRYLOV = flags.DEFINE_list("krylov_dimensions", ["16", "64"], "Products of a run.")
_BATCH = flags.DEFINE_integer("batch", 512, "Rows.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "How often each has its turn.", lower_bound=1)
_REPEATS = flags.DEFINE_integer("repeats", 3, "Timed runs in each turn.", lower_bound=1)
_ENVIRONMENTS = flags.DEFINE_string(
    "environments", environments.DIRECTORY, "Where make_environments.py put them."
)
_QUICK = flags.DEFINE_bool("quick", False, "keras_sfn alone, small, once, for a try-out.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/peers", "Where results go.")


def read_flags() -> runs.Settings:
    """Returns what the flags say.

    Raises:
        ValueError: One is wrong, or an environment is not there.
    """
    if _QUICK.value:
        return runs.Settings(["small"], [], [4], 16, 1, 2, pathlib.Path())
    if not all(number.isdigit() for number in _KRYLOV.value):
        raise ValueError(
            f"--krylov_dimensions={','.join(_KRYLOV.value)} must be integers >= 2, as 16,64."
        )
    settings = runs.Settings(
        networks=_NETWORKS.value,
        names=_PEERS.value,
        krylov_dimensions=[int(number) for number in _KRYLOV.value],
        batch=_BATCH.value,
        rounds=_ROUNDS.value,
        repeats=_REPEATS.value,
        directory=pathlib.Path(_ENVIRONMENTS.value),
    )
    runs.check(settings)
    return settings


def main(argv: Sequence[str]) -> None:
    """Compares and writes the results."""
    command_line.refuse_arguments(argv)
    try:
        settings = read_flags()
    except ValueError as error:
        sys.exit(str(error))
    output = command_line.output_directory(_OUTPUT_DIR.value)
    try:
        rows = runs.compare(settings, output)
    except environments.ProgramError as error:
        sys.exit(str(error))
    for line in results.disagreements(rows):
        print(line)
    print((output / "peers.md").read_text())
    print(f"Results in {output}/: peers.csv, peers.md, peers.png")


if __name__ == "__main__":
    app.run(main)
