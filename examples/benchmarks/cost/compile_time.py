r"""How long a user waits for the first step of `fit`: ours against Adam's.

    python examples/benchmarks/cost/compile_time.py

Each optimizer trains the deep autoencoder for a few steps, in a fresh process every time, in turn,
--repeats times. Tables have the medians. Written to --output_dir: compile_time.csv,
compile_time.png.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np
from absl import app, flags
from matplotlib import pyplot as plt

from benchmarks.common import deep_autoencoder, measure, newton_options
from helpers import command_line, tables

_WIDTHS = flags.DEFINE_list(
    "widths", [str(width) for width in deep_autoencoder.WIDTHS], "Pixels, and widths to the code."
)
_ROWS = flags.DEFINE_integer("rows", 512, "Rows of the batch.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 8, "Steps of each training.", lower_bound=2)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Processes for each; medians count.", lower_bound=1)
_NEWTON = flags.DEFINE_string("newton", "", "Arguments of our optimizer, other than defaults.")
_QUICK = flags.DEFINE_bool("quick", False, "A few parameters, one repeat, for a try-out.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/compile_time", "Where results go.")

_SCRIPT = pathlib.Path(__file__).parent / "first_step.py"

# Optimizer and `jit_compile`. Keras's "auto" is no XLA on a CPU.
_TRAININGS = (
    ("newton", "auto"),
    ("newton", "true"),
    ("newton", "false"),
    ("adam", "auto"),
    ("adam", "true"),
)


class Wait(NamedTuple):
    """How long one optimizer took.

    Attributes:
        optimizer: Ours ("newton") or Keras's ("adam").
        jit_compile: Its argument; of `compile` for Adam.
        parameters: Number n of trained parameters.
        first: Median seconds from the call of `fit` to the end of the first step.
        longest: The most of these.
        second: Median seconds of the second step.
        later: Median seconds of the steps after it; None where there was none.
        slowest_later: The most of these.
    """

    optimizer: str
    jit_compile: str
    parameters: int
    first: float
    longest: float
    second: float
    later: float | None
    slowest_later: float | None


def train(optimizer: str, jit_compile: str, widths: Sequence[int]) -> list[float]:
    """Returns the seconds of each step of one training in a fresh process."""
    flags_ = [f"--optimizer={optimizer}", f"--jit_compile={jit_compile}"]
    flags_ += [f"--widths={','.join(map(str, widths))}", f"--rows={_ROWS.value}"]
    flags_ += [f"--steps={_STEPS.value}", f"--newton={_NEWTON.value}"]
    return json.loads(measure.output_of(_SCRIPT, flags_).splitlines()[-1])["seconds"]


def plot(path: pathlib.Path, waits: Sequence[Wait], made_with: str) -> None:
    """Draws first and second steps as bars, on a logarithmic scale."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    places = np.arange(len(waits))
    axes.bar(places - 0.2, [wait.first for wait in waits], 0.4, label="fit to the first step's end")
    axes.bar(places + 0.2, [wait.second for wait in waits], 0.4, label="second step")
    axes.set_xticks(places, [f"{wait.optimizer}\njit {wait.jit_compile}" for wait in waits])
    axes.set(yscale="log", ylabel="seconds", title=f"n = {waits[0].parameters}")
    axes.legend()
    measure.save_figure(path, figure, made_with)


def main(argv: Sequence[str]) -> None:
    """Measures and writes the results."""
    command_line.refuse_arguments(argv)
    if _QUICK.value:
        command_line.set_flags({"widths": ["12", "8", "4"], "rows": 16, "repeats": 1})
    widths = command_line.positive_integers("widths", _WIDTHS.value, least=2)
    newton_options.optimizer("newton", _NEWTON.value)
    output = command_line.output_directory(_OUTPUT_DIR.value)
    made_with = measure.versions()
    seconds: dict[tuple[str, str], list[list[float]]] = {training: [] for training in _TRAININGS}
    for repeat in range(_REPEATS.value):
        for training in _TRAININGS:
            seconds[training].append(train(*training, widths))
            print(f"repeat {repeat + 1}:", *training, seconds[training][-1], flush=True)
    parameters = deep_autoencoder.parameters(widths)
    waits = []
    for training, runs in seconds.items():
        steps = np.asarray(runs)
        after = steps[:, 2:]
        later = (float(np.median(after)), float(after.max())) if after.size else (None, None)
        first, second = (float(value) for value in np.median(steps[:, :2], axis=0))
        waits.append(Wait(*training, parameters, first, float(steps[:, 0].max()), second, *later))
    print(tables.markdown(Wait._fields, waits))
    tables.write_csv(output / "compile_time.csv", Wait._fields, waits, made_with)
    plot(output / "compile_time.png", waits, made_with)
    print(f"Results in {output}/: compile_time.csv, compile_time.png")


if __name__ == "__main__":
    app.run(main)
