r"""What one model after the other costs in a process: seconds to the first step, and memory.

    python examples/benchmarks/cost/models_in_a_row.py
    python examples/benchmarks/cost/models_in_a_row.py --optimizer=adam --models=60

Models of one kind, clones of an autoencoder, are compiled and trained for a few steps, each
forgotten before the next. With --seed, `keras.utils.set_random_seed` is called before each:
TensorFlow then drops all functions that it has prepared to run. Prints a line each ten models, then
the medians after the first ten, and by how much the memory of the process has grown after them.
"""

from __future__ import annotations

import pathlib
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

import keras
import numpy as np
from absl import app, flags

from benchmarks.common import deep_autoencoder, measure, newton_options
from helpers import command_line

_OPTIMIZER = flags.DEFINE_enum("optimizer", "newton", ["newton", "adam"], "What trains.")
_MODELS = flags.DEFINE_integer("models", 200, "How many.", lower_bound=2)
_WIDTHS = flags.DEFINE_list("widths", ["64", "32", "8"], "Pixels, and widths down to the code.")
_ROWS = flags.DEFINE_integer("rows", 64, "Rows of the batch.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 5, "Steps of each model.", lower_bound=1)
_SEED = flags.DEFINE_bool("seed", False, "Set the random seed before each model.")
_NEWTON = flags.DEFINE_string("newton", "", "Other arguments of our optimizer.")

# Caches of the process fill up with the first ones.
_FIRST = 10

_MEBIBYTE = 2**20


class FirstStep(keras.callbacks.Callback):
    """Takes the time at the end of the first step."""

    time = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads the clock."""
        self.time = self.time or time.perf_counter()


def train(first: keras.Model, images: np.ndarray) -> float:
    """Trains a clone of a model; returns the seconds from `fit` to the end of the first step."""
    if _SEED.value:
        keras.utils.set_random_seed(0)
    model = keras.models.clone_model(first)
    adam = _OPTIMIZER.value == "adam"
    optimizer = (
        keras.optimizers.Adam() if adam else newton_options.optimizer("newton", _NEWTON.value)
    )
    model.compile(optimizer, "mse")
    clock, start = FirstStep(), time.perf_counter()
    options = {"batch_size": _ROWS.value, "epochs": _STEPS.value, "verbose": 0}
    model.fit(images, images, callbacks=[clock], **options)
    return clock.time - start


def main(argv: Sequence[str]) -> None:
    """Trains and prints."""
    command_line.refuse_arguments(argv)
    widths = command_line.positive_integers("widths", _WIDTHS.value, least=2)
    images = deep_autoencoder.batch(widths, _ROWS.value).numpy()
    model, seconds, memory = deep_autoencoder.build(widths), [], []
    for index in range(_MODELS.value):
        seconds.append(train(model, images))
        memory.append(_memory())
        if index == 0 or index % _FIRST == _FIRST - 1:
            print(f"model {index + 1}: {seconds[-1]:.2f} s, {memory[-1]:.0f} MiB", flush=True)
    first = min(_FIRST, _MODELS.value - 1)
    print(f"{_OPTIMIZER.value}, {measure.versions()}")
    print(f"first model: {seconds[0]:.2f} s; second: {seconds[1]:.2f} s")
    print(f"later models: median {np.median(seconds[first:]):.2f} s")
    print(f"growth after {first}: {memory[-1] - memory[first - 1]:.0f} MiB")


def _memory() -> float:
    """Returns what this process holds, in MiB; on systems without /proc, its peak so far."""
    statm = pathlib.Path("/proc/self/statm")
    if not statm.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MEBIBYTE
    return int(statm.read_text().split()[1]) * resource.getpagesize() / _MEBIBYTE


if __name__ == "__main__":
    app.run(main)
