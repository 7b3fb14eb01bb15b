r"""Differential equations solved by a physics-informed network, with saddle-free Newton steps.

    python examples/pde.py --equation=poisson
    python examples/pde.py --equation=wave --optimizer=adam,lbfgs,adam+saddle_free_newton

Each run of --optimizer trains the same network from the same weights on the same points for
--seconds. A run is a method or a chain of methods, each from the checkpoint of the one before:
adam+saddle_free_newton is Adam for --first_seconds, then ours. Written to --output_dir:
solution.png, curves.png, history.csv, checkpoints, and comparison.md where errors of the same
set-up are published. The equations are in `equations/`, one file each.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags

from equations import catalog, published
from equations import equation as equation_lib
from helpers import command_line, pde_clock, pde_problem, pde_results, pde_training

_EQUATION = flags.DEFINE_enum("equation", "poisson", list(catalog.EQUATIONS), "What is solved.")
_OPTIMIZER = flags.DEFINE_list(
    "optimizer",
    "saddle_free_newton",
    f"Runs, each a method or a chain as in adam+lbfgs: {', '.join(pde_training.METHODS)}.",
)
_SECONDS = flags.DEFINE_float("seconds", 60, "Of each run, compilation included.", lower_bound=1e-3)
_FIRST_SECONDS = flags.DEFINE_float(
    "first_seconds", 10, "Of each method of a chain but the last.", lower_bound=1e-3
)
_STEPS = flags.DEFINE_integer("steps", None, "Most steps of each method of a run.", lower_bound=1)
_CONDITIONS = flags.DEFINE_enum(
    "conditions", "soft", ["soft", "hard"], "As terms of the loss, or by the form of the solution."
)
_HIDDEN = flags.DEFINE_list("hidden", None, "Widths of the layers; the equation's by default.")
_POINTS = flags.DEFINE_list("points", [], "Numbers of points, as in interior=900,boundary=120.")
_WEIGHTS = flags.DEFINE_list("weights", [], "Of terms, as in interior=1,boundary=10.")
_POINTS_FILE = flags.DEFINE_string(
    "points_file", None, "CSV of fixed interior points, a column a coordinate, without a header."
)
_RESAMPLE = flags.DEFINE_integer(
    "resample_every", 0, "Draw new points after so many steps; 0: never.", lower_bound=0
)
_DTYPE = flags.DEFINE_enum("dtype", "float64", ["float64", "float32"], "Precision.")
_ADAM_RATE = flags.DEFINE_float("adam_learning_rate", 1e-3, "Of Adam.", lower_bound=1e-12)
_JIT = flags.DEFINE_enum(
    "jit_compile", "auto", ["auto", "true", "false"], "Whether XLA compiles our steps."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of weights and points.", lower_bound=0)
_PUBLISHED_DIR = flags.DEFINE_string(
    "published_dir",
    None,
    "Copy of f-dangel/kfac-pinns-experiments, whose CSV files are read for the comparison.",
)
_QUICK = flags.DEFINE_bool("quick", False, "A try-out in seconds, too short to tell anything.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/pde", "Where results go.")

# The --quick form: the steps end it, and no clock.
_SMALL_HIDDEN = (6,)
_SMALL_POINTS = 40
_SMALL = {"seconds": 600.0, "first_seconds": 200.0, "steps": 2, "jit_compile": "false"}


def chains(names: Sequence[str]) -> list[list[str]]:
    """Returns the methods of each run of --optimizer."""
    found = [name.split("+") for name in names]
    for name, chain in zip(names, found, strict=True):
        unknown = [method for method in chain if method not in pde_training.METHODS]
        if unknown:
            sys.exit(
                f"--optimizer={name} has an unknown method: {unknown[0]}. Choose from "
                f"{', '.join(pde_training.METHODS)}, and join a chain by +."
            )
        if "lbfgs" in chain and _RESAMPLE.value:
            sys.exit("--optimizer=lbfgs needs fixed points. Set --resample_every=0.")
        first = (len(chain) - 1) * _FIRST_SECONDS.value
        if first >= _SECONDS.value:
            sys.exit(
                f"--optimizer={name} has no time left for {chain[-1]}: {first:g} s before it, of "
                f"--seconds={_SECONDS.value:g}. Raise --seconds or lower --first_seconds."
            )
    if not found:
        sys.exit("--optimizer= is empty. Name a method.")
    return found


def assignments(flag: str, values: Sequence[str]) -> dict[str, float]:
    """Returns NAME=NUMBER, ... as a dictionary."""
    try:
        pairs = [value.split("=") for value in values]
        return {name: float(number) for name, number in pairs}
    except ValueError:
        sys.exit(f"--{flag}={','.join(values)} must be NAME=NUMBER, with a comma between two.")


def settings(equation: equation_lib.Equation) -> pde_problem.Settings:
    """Returns how the flags have the equation solved."""
    hidden = equation.hidden
    if _HIDDEN.value is not None:
        hidden = tuple(command_line.positive_integers("hidden", _HIDDEN.value))
    points = _numbers_of_points(equation)
    if _QUICK.value:
        hidden = _SMALL_HIDDEN
        points = {term.name: _SMALL_POINTS for term in equation.terms}
    return pde_problem.Settings(
        hidden=hidden,
        conditions=_CONDITIONS.value,
        dtype=_DTYPE.value,
        weights=assignments("weights", _WEIGHTS.value),
        points=points,
        interior=_interior(),
        resample_every=_RESAMPLE.value,
        seed=_SEED.value,
    )


def _numbers_of_points(equation: equation_lib.Equation) -> dict[str, int]:
    numbers = assignments("points", _POINTS.value)
    names = [term.name for term in equation.terms]
    for name, number in numbers.items():
        if name not in names or not (number >= 1 and number == number // 1 < np.inf):
            sys.exit(
                f"--points={name}={number:g} must be an integer >= 1 for one of the terms "
                f"{', '.join(names)} of {equation.name}."
            )
    return {name: int(number) for name, number in numbers.items()}


def _interior() -> np.ndarray | None:
    if _POINTS_FILE.value is None:
        return None
    try:
        return np.loadtxt(_POINTS_FILE.value, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        sys.exit(f"--points_file={_POINTS_FILE.value} cannot be read: {error}")


def _published(table: published.Table) -> dict[str, list[float | None]]:
    if _PUBLISHED_DIR.value is None or not table.folder:
        return {}
    try:
        return published.read(pathlib.Path(_PUBLISHED_DIR.value) / table.folder)
    except FileNotFoundError as error:
        sys.exit(f"--published_dir={_PUBLISHED_DIR.value}: {error}")


def main(argv: Sequence[str]) -> None:
    """Trains each run, writes pictures and tables."""
    command_line.refuse_arguments(argv)
    if _QUICK.value:
        command_line.set_flags(_SMALL)
    equation = catalog.EQUATIONS[_EQUATION.value]
    runs = chains(_OPTIMIZER.value)
    chosen = settings(equation)
    table = published.table(equation.name, chosen.hidden)
    read = {} if table is None else _published(table)
    folder = command_line.output_directory(_OUTPUT_DIR.value)
    limits = pde_clock.Limits(
        seconds=_SECONDS.value,
        first_seconds=_FIRST_SECONDS.value,
        steps=_STEPS.value,
        jit_compile=_JIT.value if _JIT.value == "auto" else _JIT.value == "true",
        adam_rate=_ADAM_RATE.value,
    )
    print(f"{equation.name}: {equation.statement}\nSet-up: {equation.source}")
    histories, solutions = {}, {}
    for chain in runs:
        try:
            problem = pde_problem.Problem(equation, chosen)
            records = pde_training.train(problem, chain, limits, folder)
        except (ValueError, NotImplementedError) as error:
            sys.exit(" ".join(str(error).split()))
        name = "+".join(chain)
        histories[name] = records
        solutions[name] = problem.values(pde_results.picture_points(equation))
        # After each run, so that a run that is stopped leaves the earlier ones.
        pde_results.write_history(folder / "history.csv", histories, f"seed {chosen.seed}")
        pde_results.draw_curves(folder / "curves.png", equation, histories)
        pde_results.draw_solutions(folder / "solution.png", equation, solutions)
    print(f"\n{pde_results.summary(histories)}")
    if table is not None:
        text = pde_results.comparison(table, read, histories)
        (folder / "comparison.md").write_text(text + "\n")
        print(f"\n{text}")


if __name__ == "__main__":
    app.run(main)
