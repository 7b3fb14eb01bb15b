r"""Trains common patterns of Keras models by the name of an optimizer alone.

    python examples/clients/compare.py

Each model is trained twice from the same start, by "adam" and by "saddle_free_newton", without any
other change. Prints the table of docs/clients.md: the first loss and the last of each. A model that
an optimizer does not train is a row with the error's first line. `--only=VAE,siamese` trains these.
"""

from __future__ import annotations

import pathlib
import sys

import keras
from absl import app, flags

import keras_sfn  # noqa: F401 (registers the name)

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1]))

from clients import patterns
from helpers import tables

_ONLY = flags.DEFINE_list("only", [], "Names of patterns; all of them if empty.")
_EPOCHS = flags.DEFINE_integer("epochs", 30, "Of each training.", lower_bound=1)
_ROWS = flags.DEFINE_integer("rows", 512, "Digits that are trained on.", lower_bound=8)

OPTIMIZERS = ("adam", "saddle_free_newton")


def train(name: str, optimizer: str, rows: int, epochs: int) -> list[float]:
    """Returns the losses of a training, one an epoch of one batch."""
    keras.utils.set_random_seed(0)
    pattern = patterns.PATTERNS[name](rows)
    pattern.model.compile(*[optimizer] * pattern.optimizers, **pattern.compile)
    history = pattern.model.fit(
        *pattern.data, batch_size=rows, epochs=epochs, shuffle=False, verbose=0
    ).history
    # Keras shows its own tracker as "loss", so that train steps have another name for theirs.
    losses: list[float] = history.get("objective") or history["loss"]
    return losses


def main(argv: list[str]) -> None:
    """Prints one row a pattern."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}.")
    rows = []
    for name in _ONLY.value or patterns.PATTERNS:
        cells: list[object] = [name]
        for optimizer in OPTIMIZERS:
            try:
                losses = train(name, optimizer, _ROWS.value, _EPOCHS.value)
                cells += [losses[0], losses[-1]] if optimizer == "adam" else [losses[-1]]
            except (ValueError, NotImplementedError) as error:
                cells.append(str(error).splitlines()[0])
        rows.append(cells)
        print(
            tables.markdown(["pattern", "at first", "Adam", "by name"], rows[-1:]).splitlines()[-1]
        )
    print(tables.markdown(["pattern", "at first", "Adam", "by name"], rows))


if __name__ == "__main__":
    app.run(main)
