"""One training of a task of the suite, printed as JSON.

`run.py` starts it, because only in a process of its own does a training compile all it needs.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

from absl import app, flags

from benchmarks.suite import contestants, registry
from benchmarks.suite import entry as entry_lib
from benchmarks.time_to_loss import training_runs
from helpers import command_line

_TASK = flags.DEFINE_enum("task", "regression", list(registry.ENTRIES), "What is trained.")
_METHOD = flags.DEFINE_enum("method", "newton", contestants.METHODS, "What trains it.")
_SETTINGS = flags.DEFINE_string("settings", "", "Of the method, as arguments in a call.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the weights and the order of batches.")
_SECONDS = flags.DEFINE_float("seconds", 10, "Of training.", lower_bound=0.01)
_POINTS = flags.DEFINE_integer("points", 40, "Records of a run.", lower_bound=1)
_XLA = flags.DEFINE_bool("xla", False, "Whether XLA compiles the steps of a rival.")
_TRIAL = flags.DEFINE_bool("trial", False, "Only try whether XLA makes the rival faster.")
_QUICK = flags.DEFINE_bool("quick", False, "Few rows, small widths.")
_IMAGES = flags.DEFINE_string("images", "digits", "digits or fashion_mnist.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps prepared sets.")


def main(argv: Sequence[str]) -> None:
    """Trains and prints."""
    command_line.refuse_arguments(argv)
    form = entry_lib.Form(_QUICK.value, _IMAGES.value, _DATA_DIR.value)
    entry = registry.ENTRIES[_TASK.value](form)
    contestant = contestants.Contestant(_METHOD.value, _SETTINGS.value)
    if _TRIAL.value:
        print(json.dumps(contestants.xla_is_faster(entry, contestant)))
        return
    budget = training_runs.Budget(_SECONDS.value, _POINTS.value)
    run = contestants.train(entry, contestant, _SEED.value, budget, xla=_XLA.value)
    print(json.dumps(run))


if __name__ == "__main__":
    app.run(main)
