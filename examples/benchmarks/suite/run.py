r"""Tasks of many kinds: saddle-free Newton by default against the best of tuned rivals.

    python examples/benchmarks/suite/run.py --output_dir=results/suite
    python examples/benchmarks/suite/run.py --tasks=burgers,heat --seconds=40 --seeds=0,1,2

Every training has the same seconds, in a process of its own. Rivals are tuned on the first seed,
by rate and batch size; the best of them train from the other seeds too. Every training is a file
in --output_dir when it ends, and the same command again trains only what is missing. Written after
each task: report.md, suite.csv, and the curves of the task; at the end suite.png.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Collection, Sequence

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

from absl import app, flags, logging

from benchmarks.common import measure
from benchmarks.suite import contest as contest_lib
from benchmarks.suite import contestants, pictures, registry, report, starters
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import store as store_lib
from benchmarks.suite import summary as summary_lib
from benchmarks.time_to_loss import settings as settings_lib
from benchmarks.time_to_loss import training_runs
from helpers import command_line

_TASKS = flags.DEFINE_list("tasks", list(registry.ENTRIES), "What is trained, in turn.")
_METHODS = flags.DEFINE_list("methods", list(contestants.METHODS), "What trains it.")
_NEWTON = flags.DEFINE_multi_string(
    "newton",
    [""],
    "Arguments of SaddleFreeNewton, as name=value,name=value; may be repeated; empty for the "
    "defaults. `batch_size` is one too.",
)
_SECONDS = flags.DEFINE_float("seconds", 40, "Of each training.", lower_bound=0.01)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Of weights and the order of batches.")
_FINALISTS = flags.DEFINE_integer(
    "finalists", 2, "So many rivals train from all seeds, the others from the first.", lower_bound=1
)
_SEARCH_MOVES = flags.DEFINE_integer(
    "search_moves", 6, "The search for rate and batch size leads at most so far.", lower_bound=0
)
_POINTS = flags.DEFINE_integer("points", 40, "Records of a training.", lower_bound=1)
_IMAGES = flags.DEFINE_enum(
    "images", "digits", ["digits", "fashion_mnist"], "Those of the classifiers."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps prepared sets.")
_QUICK = flags.DEFINE_bool("quick", False, "Tiny networks, in this process, for a try-out.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/suite", "Where results go.")

_QUICK_FLAGS = {
    "methods": [contestants.OURS, "adam"],
    # The steps that are traced fastest.
    "newton": ["krylov_dimension=2,jit_compile=False"],
    "seconds": 0.1,
    "seeds": ["0"],
    "points": 2,
    "search_moves": 0,
}


def main(argv: Sequence[str]) -> None:
    """Trains and writes the results."""
    command_line.refuse_arguments(argv)
    logging.set_verbosity(logging.ERROR)  # TFDS tells of every file it opens.
    if _QUICK.value:
        given = {name for name in _QUICK_FLAGS if flags.FLAGS[name].present}
        command_line.set_flags({k: v for k, v in _QUICK_FLAGS.items() if k not in given})
    _refuse_unknown("tasks", _TASKS.value, registry.ENTRIES)
    _refuse_unknown("methods", _METHODS.value, contestants.METHODS)
    _seeds()
    for text in _NEWTON.value:
        settings_lib.newton_variant(text)
    methods = _METHODS.value
    if contestants.LBFGS in methods and not contestants.lbfgs_is_installed():
        print("lbfgs is left out. It needs: pip install -e '.[benchmarks]'", flush=True)
        methods = [method for method in methods if method != contestants.LBFGS]
    output = command_line.output_directory(_OUTPUT_DIR.value)
    made_with = measure.versions()
    lines: list[summary_lib.Summary] = []
    groups: dict[str, contest_lib.Groups] = {}
    for task in _TASKS.value:
        found, groups[task] = _contest(task, methods, output, made_with)
        lines += found
        _report(output, lines, groups, made_with)
    pictures.page(output / "suite.png", lines, made_with)
    print(f"\n{report.comparison(lines)}\n\n{report.all_losses(groups)}\n")
    print(f"Results in {output}/: report.md, suite.csv, suite.png, and curves of each task")


def _seeds() -> list[int]:
    if not _SEEDS.value or not all(seed.isdecimal() for seed in _SEEDS.value):
        sys.exit(f"--seeds={','.join(_SEEDS.value)} must be integers >= 0, with a comma between.")
    return [int(seed) for seed in _SEEDS.value]


def _refuse_unknown(flag: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            sys.exit(f"--{flag}={name} is unknown. Use {', '.join(known)}.")


def _contest(
    task: str, methods: Sequence[str], output: pathlib.Path, made_with: str
) -> tuple[list[summary_lib.Summary], contest_lib.Groups]:
    """Holds one contest, draws its curves, and returns its lines and its trainings."""
    form = entry_lib.Form(_QUICK.value, _IMAGES.value, _DATA_DIR.value)
    entry = registry.ENTRIES[task](form)
    budget = training_runs.Budget(_SECONDS.value, _POINTS.value)
    size = f"{entry.task.rows} rows, {entry.task.build(0).count_params()} parameters"
    title = f"{task}, {size}, {_IMAGES.value}, {budget.seconds:g} s a run"
    starter: starters.Starter = starters.Processes(task, form, budget)
    if form.quick:
        starter = starters.Here(entry, budget)
    store = store_lib.Store(output / "runs" / task, title)
    contest = contest_lib.Contest(entry, store, starter, _SEARCH_MOVES.value)
    groups = contest.run(methods, _NEWTON.value, _seeds(), _FINALISTS.value)
    name = "loss on all rows"
    pictures.curves(output / f"{task}.png", groups, title, name, made_with)
    setup = summary_lib.Setup(task, entry.kind, entry.second_figure, budget.seconds)
    return summary_lib.summarise(setup, groups), groups


def _report(
    output: pathlib.Path,
    lines: Sequence[summary_lib.Summary],
    groups: dict[str, contest_lib.Groups],
    made_with: str,
) -> None:
    text = f"{report.comparison(lines)}\n\n{report.all_losses(groups)}\n\n{made_with}\n"
    (output / "report.md").write_text(text)
    report.write_csv(output / "suite.csv", lines, made_with)


if __name__ == "__main__":
    app.run(main)
