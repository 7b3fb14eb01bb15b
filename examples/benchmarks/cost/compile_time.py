r"""How long a user waits for the first step of `fit`: ours against Adam's.

    python examples/benchmarks/cost/compile_time.py
    python examples/benchmarks/cost/compile_time.py --task=all --repeats=3

Each optimizer trains the deep autoencoder, or tasks of the suite, for a few steps, in a fresh
process every time, in turn, --repeats times; then a second model of the same kind in the same
process. Tables have the medians. Written to --output_dir: compile_time.csv, compile_time.png.
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
from benchmarks.suite import registry
from helpers import command_line, tables

_ALL = "all"

_TASK = flags.DEFINE_list(
    "task", [], f"Tasks of the suite, or {_ALL}; by default the deep autoencoder alone."
)
_WIDTHS = flags.DEFINE_list(
    "widths", [str(width) for width in deep_autoencoder.WIDTHS], "Pixels, and widths to the code."
)
_ROWS = flags.DEFINE_integer("rows", 512, "Rows of the autoencoder's batch.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 20, "Steps of each training.", lower_bound=2)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Processes for each; medians count.", lower_bound=1)
_NEWTON = flags.DEFINE_string("newton", "", "Arguments of our optimizer, other than defaults.")
_QUICK = flags.DEFINE_bool("quick", False, "A few parameters, one repeat, for a try-out.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/compile_time", "Where results go.")

_SCRIPT = pathlib.Path(__file__).parent / "first_step.py"

# Renewals are among the second to the tenth step; the steps after these are "later".
_EARLY = 10

# Of the deep autoencoder: optimizer and `jit_compile`.
_TRAININGS = (
    ("newton", "auto"),
    ("newton", "true"),
    ("newton", "false"),
    # Keras's "auto" is no XLA on a CPU.
    ("adam", "auto"),
    ("adam", "true"),
)

DEEP_AUTOENCODER = "deep_autoencoder"


class Training(NamedTuple):
    """What is measured in processes of its own.

    Attributes:
        task: Of the suite, or `DEEP_AUTOENCODER`.
        optimizer: Ours ("newton") or Keras's ("adam").
        jit_compile: Its argument; of `compile` for Adam.
    """

    task: str
    optimizer: str
    jit_compile: str


class Wait(NamedTuple):
    """How long one optimizer took.

    Attributes:
        task: Of the suite, or `DEEP_AUTOENCODER`.
        optimizer: As in `Training`.
        jit_compile: As in `Training`.
        parameters: Number n of trained parameters.
        first: Median seconds from the call of `fit` to the end of the first step.
        longest: The most of these.
        second: Median seconds of the second step.
        early: Median seconds of all steps from the second to the tenth, together.
        later: Median seconds of a step after them; None where there was none.
        slowest_later: The most of these.
        second_model: Median seconds of the first step of a second model in the same process.
    """

    task: str
    optimizer: str
    jit_compile: str
    parameters: int
    first: float
    longest: float
    second: float
    early: float
    later: float | None
    slowest_later: float | None
    second_model: float


def train(training: Training) -> tuple[int, list[list[float]]]:
    """Returns the parameters, and the seconds of each step of two models of a fresh process."""
    flags_ = [f"--optimizer={training.optimizer}", f"--jit_compile={training.jit_compile}"]
    if training.task == DEEP_AUTOENCODER:
        flags_ += [f"--widths={','.join(_WIDTHS.value)}", f"--rows={_ROWS.value}"]
    else:
        flags_ += [f"--task={training.task}", f"--quick={_QUICK.value}"]
    flags_ += [f"--steps={_STEPS.value}", "--models=2", f"--newton={_NEWTON.value}"]
    found = json.loads(measure.output_of(_SCRIPT, flags_).splitlines()[-1])
    return found["parameters"], found["seconds"]


def wait(training: Training, parameters: int, seconds: Sequence[Sequence[Sequence[float]]]) -> Wait:
    """Returns the medians.

    Args:
        training: What was trained.
        parameters: Of its network.
        seconds: Of each step of both models of each process, shape (repeats, 2, steps).
    """
    steps, again = np.asarray(seconds)[:, 0], np.asarray(seconds)[:, 1, 0]
    after = steps[:, _EARLY:]
    return Wait(
        **training._asdict(),
        parameters=parameters,
        first=float(np.median(steps[:, 0])),
        longest=float(steps[:, 0].max()),
        second=float(np.median(steps[:, 1])),
        early=float(np.median(steps[:, 1:_EARLY].sum(axis=1))),
        later=float(np.median(after)) if after.size else None,
        slowest_later=float(after.max()) if after.size else None,
        second_model=float(np.median(again)),
    )


def plot(path: pathlib.Path, waits: Sequence[Wait], made_with: str) -> None:
    """Draws first steps, of a second model too, and early steps as bars on a logarithmic scale."""
    several = len({wait.task for wait in waits}) > 1
    size = (8, 1 + 0.45 * len(waits))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    places = np.arange(len(waits))
    bars = {
        "fit to the first step's end": [wait.first for wait in waits],
        "the same of a second model": [wait.second_model for wait in waits],
        f"steps 2 to {min(_EARLY, _STEPS.value)}": [wait.early for wait in waits],
    }
    for index, (label, widths) in enumerate(bars.items()):
        axes.barh(places + 0.27 * (index - 1), widths, 0.27, label=label)
    names = [
        f"{wait.task}, {wait.optimizer}" if several else f"{wait.optimizer}, jit {wait.jit_compile}"
        for wait in waits
    ]
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    title = "" if several else f"{waits[0].task}, n = {waits[0].parameters}"
    axes.set(xscale="log", xlabel="seconds", title=title)
    axes.legend(fontsize=8)
    measure.save_figure(path, figure, made_with)


def trainings() -> list[Training]:
    """Returns what the flags ask for.

    Raises:
        SystemExit: A task is unknown.
    """
    tasks = list(registry.ENTRIES) if _TASK.value == [_ALL] else _TASK.value
    for task in tasks:
        if task not in registry.ENTRIES:
            sys.exit(f"--task={task} is unknown. Use {_ALL} or {', '.join(registry.ENTRIES)}.")
    if not tasks:
        return [Training(DEEP_AUTOENCODER, *training) for training in _TRAININGS]
    return [Training(task, optimizer, "auto") for task in tasks for optimizer in ("newton", "adam")]


def main(argv: Sequence[str]) -> None:
    """Measures and writes the results."""
    command_line.refuse_arguments(argv)
    if _QUICK.value:
        command_line.set_flags({"widths": ["12", "8", "4"], "rows": 16, "repeats": 1})
    command_line.positive_integers("widths", _WIDTHS.value, least=2)
    newton_options.optimizer("newton", _NEWTON.value)
    output = command_line.output_directory(_OUTPUT_DIR.value)
    made_with = measure.versions()
    seconds: dict[Training, list[list[list[float]]]] = {each: [] for each in trainings()}
    parameters = {}
    for repeat in range(_REPEATS.value):
        for training in seconds:
            parameters[training], found = train(training)
            seconds[training].append(found)
            print(f"repeat {repeat + 1}:", *training, found[0], flush=True)
    waits = [wait(training, parameters[training], runs) for training, runs in seconds.items()]
    print(tables.markdown(Wait._fields, waits))
    tables.write_csv(output / "compile_time.csv", Wait._fields, waits, made_with)
    plot(output / "compile_time.png", waits, made_with)
    print(f"Results in {output}/: compile_time.csv, compile_time.png")


if __name__ == "__main__":
    app.run(main)
