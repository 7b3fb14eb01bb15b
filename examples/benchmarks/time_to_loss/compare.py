r"""Time to a given training loss: saddle-free Newton against tuned first-order methods and others.

    python examples/benchmarks/time_to_loss/compare.py --task=digits_autoencoder
    python examples/benchmarks/time_to_loss/compare.py --task=poisson --newton= \
        --newton="krylov_dimension=30,inner_steps=2" --seeds=5

Every run has the same seconds. Adam and SGD with Nesterov momentum 0.99, their rates falling to
zero over these seconds along a cosine, are tuned on the first seeds, over learning rate x batch
size; the best goes on to the other seeds. Saddle-free Newton has its default settings and those of
each --newton. L-BFGS is TensorFlow Probability's, on the whole training set. hessianlearn's
low-rank saddle-free Newton, tuned as Adam, needs an environment (peers/make_environments.py).
Written to --output_dir, each run when it ends: runs.csv; at the end curves.png, and a table is
printed.
"""

from __future__ import annotations

import math
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

import keras
from absl import app, flags, logging

from benchmarks.common import measure
from benchmarks.common import task as task_lib
from benchmarks.peers import environments
from benchmarks.time_to_loss import hessianlearn_runs, plans, tasks, training_runs
from benchmarks.time_to_loss import results as results_lib
from benchmarks.time_to_loss import settings as settings_lib
from helpers import command_line

_TASK = flags.DEFINE_enum(
    "task", "digits_autoencoder", list(settings_lib.DEFAULTS), "What is trained."
)
_METHODS = flags.DEFINE_list("methods", "newton,adam,sgd,lbfgs", "What trains it, in turn.")
_SECONDS = flags.DEFINE_float(
    "seconds", None, "Training time of each run; by default the task's own.", lower_bound=0.1
)
_POINTS = flags.DEFINE_integer("points", 60, "Records of a run.", lower_bound=1)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds of each optimizer: 0, 1, ...", lower_bound=1)
_TUNING_SEEDS = flags.DEFINE_integer(
    "tuning_seeds", 1, "On the first so many the whole grids are run.", lower_bound=1
)
_NEWTON = flags.DEFINE_multi_string(
    "newton",
    [""],
    "Arguments of SaddleFreeNewton, as name=value,name=value; may be repeated; empty for the "
    "defaults. `batch_size` is one too.",
)
_NEWTON_BATCH = flags.DEFINE_integer(
    "newton_batch_size", None, "Rows a step of ours; by default the task's own.", lower_bound=1
)
_ADAM_RATES = flags.DEFINE_list("adam_rates", None, "Adam's; by default the task's own.")
_SGD_RATES = flags.DEFINE_list("sgd_rates", None, "SGD's; by default the task's own.")
_BATCHES = flags.DEFINE_list("batch_sizes", None, "Of both; by default the task's own.")
_JIT = ("auto", "true", "false")
_ADAM_JIT = flags.DEFINE_enum(
    "adam_jit", "auto", _JIT, "Whether XLA compiles Adam and SGD; auto tries what is faster."
)
_LBFGS_JIT = flags.DEFINE_enum("lbfgs_jit", "auto", _JIT, "The same for L-BFGS.")
_AT_ONCE = flags.DEFINE_integer(
    "steps_per_execution", 10, "Of Adam and SGD, before Keras is back in Python.", lower_bound=1
)
_MEMORY = flags.DEFINE_list("lbfgs_memory", ["10", "50"], "Pairs that L-BFGS keeps.")
_RANKS = flags.DEFINE_list(
    "hessianlearn_ranks", None, "hessianlearn's eigenvectors a step; by default 20,40."
)
_DAMPINGS = flags.DEFINE_list(
    "hessianlearn_dampings", None, "What it adds to the curvature; by default 0.001,0.01,0.1."
)
_STEPS = flags.DEFINE_list(
    "hessianlearn_steps", None, "Its step lengths, or line_search, the default."
)
_HESSIAN_ROWS = flags.DEFINE_integer(
    "hessianlearn_rows", None, "Rows of its products; by default those of a step.", lower_bound=1
)
_ENVIRONMENTS = flags.DEFINE_string(
    "environments", environments.DIRECTORY, "Where make_environments.py put hessianlearn's."
)
_ROWS = flags.DEFINE_integer("rows", None, "Only so many rows, or sequences, or points.", 1)
_HIDDEN = flags.DEFINE_list("hidden", None, "Widths of the hidden layers (not of `adding`).")
_LENGTH = flags.DEFINE_integer("length", 50, "Steps of `adding`.", lower_bound=2)
_UNITS = flags.DEFINE_integer("units", 64, "Units of `adding`.", lower_bound=1)
_CELL = flags.DEFINE_enum("cell", "rnn", list(tasks.CELLS), "Cell of `adding`.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps prepared sets.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Fetch the set over the network if need be.")
_QUICK = flags.DEFINE_bool("quick", False, "Tiny networks for a second each, for a try-out.")
_RESUME = flags.DEFINE_bool("resume", False, "Skip the runs that --output_dir has already.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/time_to_loss", "Where results go.")


def make_task() -> task_lib.Task:
    """Returns the task of the flags."""
    sizes: dict[str, Any] = {"rows": _ROWS.value, "length": _LENGTH.value, "units": _UNITS.value}
    if _HIDDEN.value:
        sizes["hidden"] = settings_lib.positive_integers("hidden", _HIDDEN.value)
    if _QUICK.value:
        sizes |= settings_lib.QUICK_SIZES
    taken = {name: sizes[name] for name in ("rows", "hidden") if sizes.get(name)}
    if _TASK.value == "adding":
        taken.pop("hidden", None)
        return tasks.adding(sizes["length"], sizes["units"], cell=_CELL.value, **taken)
    if _TASK.value == "poisson":
        return tasks.poisson(**taken)
    if _TASK.value == "fashion_autoencoder":
        taken |= {"data_dir": _DATA_DIR.value, "download": _DOWNLOAD.value}
        return tasks.fashion_autoencoder(**taken)
    return tasks.digits_autoencoder(**taken)


def read_settings() -> settings_lib.Settings:
    """Returns budget and grids of the flags, where they are given, or else of the task."""
    settings = settings_lib.DEFAULTS[_TASK.value]
    if _QUICK.value:
        settings = settings_lib.QUICK
    given: dict[str, Any] = {"seconds": _SECONDS.value, "newton_batch_size": _NEWTON_BATCH.value}
    for flag in (_ADAM_RATES, _SGD_RATES):
        if flag.value is not None:
            given[flag.name] = settings_lib.positive_numbers(flag.name, flag.value)
    if _BATCHES.value is not None:
        given["batch_sizes"] = settings_lib.positive_integers("batch_sizes", _BATCHES.value)
    given["hessianlearn"] = settings_lib.hessianlearn_grid(
        _RANKS.value, _DAMPINGS.value, _STEPS.value
    )
    return settings._replace(**{name: value for name, value in given.items() if value is not None})


def run_all(
    benchmark: plans.Benchmark,
    results: results_lib.Results,
    methods: Sequence[str],
) -> dict[tuple[str, str], list[training_runs.Run]]:
    """Runs what is not there yet, in turn over the seeds; returns the runs to compare."""
    tuning = min(_TUNING_SEEDS.value, _SEEDS.value)
    chosen: plans.Plan = {}
    for method in methods:
        plan = benchmark.plan(method)
        if method not in plans.TUNED:
            chosen |= plan
            continue
        tuned: dict[tuple[str, str], list[training_runs.Run]] = {key: [] for key in plan}
        for seed in range(tuning):
            for key, train in plan.items():
                tuned[key].append(_run(results, key, train, seed))
        best = min(tuned, key=lambda key: results_lib.median_final(tuned[key]))
        print(f"best of {len(plan)} settings of {method}: {best[1]}", flush=True)
        if benchmark.at_the_edge(method, best):
            print(f"No rate beyond it was tried. Widen --{method}_rates.", flush=True)
        chosen[best] = plan[best]
    runs: dict[tuple[str, str], list[training_runs.Run]] = {key: [] for key in chosen}
    for seed in range(_SEEDS.value):
        for key, train in chosen.items():
            runs[key].append(_run(results, key, train, seed))
    return runs


def _run(
    results: results_lib.Results,
    key: tuple[str, str],
    train: Callable[[int, str], plans.Outcome],
    seed: int,
) -> training_runs.Run:
    found = results.find(*key, seed)
    if found is not None:
        return found
    records, first, xla = train(seed, f"{key[0]} ({key[1]}), seed {seed}")
    run = training_runs.Run(*key, seed, xla, first, records)
    results.append(run)
    keras.utils.clear_session()
    return run


def main(argv: Sequence[str]) -> None:
    """Trains with each optimizer in turn and writes the results."""
    command_line.refuse_arguments(argv)
    logging.set_verbosity(logging.ERROR)  # TFDS tells of every file it opens.
    for method in _METHODS.value:
        if method not in plans.METHODS:
            known = ", ".join(plans.METHODS)
            sys.exit(f"--methods={method} is unknown. Use {known}.")
    if "adam" not in _METHODS.value:
        sys.exit("--methods must have adam, against which the others are measured.")
    directory = pathlib.Path(_ENVIRONMENTS.value)
    if hessianlearn_runs.NAME in _METHODS.value:
        missing = environments.lacks(directory, hessianlearn_runs.NAME)
        if missing:
            sys.exit(missing)
    settings = read_settings()
    variants = [settings_lib.newton_variant(text) for text in _NEWTON.value]
    memories = settings_lib.positive_integers("lbfgs_memory", _MEMORY.value)
    choices = plans.Choices(
        points=settings_lib.QUICK_POINTS if _QUICK.value else _POINTS.value,
        adam_jit=_ADAM_JIT.value,
        lbfgs_jit=_LBFGS_JIT.value,
        at_once=_AT_ONCE.value,
        hessian_rows=_HESSIAN_ROWS.value,
        environments=directory,
    )
    task = make_task()
    task.set_precision()
    packages = ("tensorflow", "keras", "tensorflow-probability", "numpy")
    made_with = measure.versions(packages)
    output = command_line.output_directory(_OUTPUT_DIR.value)
    count = task.build(0).count_params()
    setup = f"{task.name}, {task.rows} rows, {count} parameters, {settings.seconds:g} s a run"
    results = results_lib.Results(output / "runs.csv", setup, made_with, _RESUME.value)
    benchmark = plans.Benchmark(task, settings, variants, memories, choices)
    try:
        groups = run_all(benchmark, results, _METHODS.value)
    except environments.ProgramError as error:
        sys.exit(str(error))
    adam = next(key for key in groups if key[0] == "adam")
    if not math.isfinite(results_lib.median_final(groups[adam])):
        sys.exit("Adam diverged with every rate. Choose lower --adam_rates.")
    results_lib.plot(output / "curves.png", groups, setup, task.figure, made_with)
    print(f"\n{setup}; {made_with}\n")
    print(results_lib.table(groups, adam, settings.seconds, task.figure))
    print(f"Results in {output}/: runs.csv, curves.png")


if __name__ == "__main__":
    app.run(main)
