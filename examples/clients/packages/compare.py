r"""Trains by packages that people use, by the name of an optimizer: does each work as with Adam?

    pip install -e '.[clients]'
    python examples/clients/packages/compare.py

Each program of `programs` runs in a process of its own, once by "adam" and once by
"saddle_free_newton". Prints the table of docs/clients.md. A package that is not installed, or a
training that fails, is a row with the error's last line. `--only=exports,grid_search` runs these.
"""

from __future__ import annotations

import pathlib
import sys

from absl import app, flags

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

from clients.packages import runs
from helpers import tables

_ONLY = flags.DEFINE_list("only", [], "Names of programs; all of them if empty.")
_SECONDS = flags.DEFINE_integer("seconds", 900, "After which a program is stopped.", lower_bound=1)
_TRAIN = flags.DEFINE_list("train", [], "Used by the program itself: a program, an optimizer.")

PROGRAMS = pathlib.Path(__file__).parent / "programs"
OPTIMIZERS = ("adam", "saddle_free_newton")
HEADER = ["package", "works", "at first", "Adam", "saddle_free_newton"]


def main(argv: list[str]) -> None:
    """Prints one row a case."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
    if _TRAIN.value:
        runs.train(*_TRAIN.value)
        return
    programs = sorted(path.stem for path in PROGRAMS.glob("*.py") if path.stem != "__init__")
    table = []
    for program in _ONLY.value or programs:
        adam, ours = (runs.run(program, optimizer, _SECONDS.value) for optimizer in OPTIMIZERS)
        found = runs.rows(program, adam, ours)
        table += found
        print(*tables.markdown(HEADER, found).splitlines()[2:], sep="\n", flush=True)
    print(tables.markdown(HEADER, table))


if __name__ == "__main__":
    app.run(main)
