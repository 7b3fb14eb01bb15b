"""Who takes part, and one training of one of them."""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

import keras_sfn
from benchmarks.common import first_order, newton_options
from benchmarks.suite import entry as entry_lib
from benchmarks.time_to_loss import training_runs

OURS = "newton"
LBFGS = "lbfgs"
METHODS = (OURS, *first_order.OPTIMIZERS, LBFGS)

# The rate with which a search begins, over Adam's.
START_RATES = {"adam": 1.0, "adamw": 1.0, "muon": 3.0, "lion": 0.1, "sgd": 3.0}


class Contestant(NamedTuple):
    """An optimizer with its settings.

    Attributes:
        method: One of `METHODS`.
        settings: As arguments in a call. Of ours those of the optimizer, and `batch_size`; of
            first-order optimizers `rate` and `batch_size`; of L-BFGS `memory`.
    """

    method: str
    settings: str

    def __str__(self) -> str:
        return f"{self.method} ({self.settings or 'defaults'})"


def first_order_contestant(method: str, rate: float, batch_size: int) -> Contestant:
    """Returns a first-order optimizer with a rate, of which two digits count."""
    return Contestant(method, f"rate={rate:.2g},batch_size={batch_size}")


def lbfgs_is_installed() -> bool:
    """Tells whether TensorFlow Probability is there."""
    return importlib.util.find_spec("tensorflow_probability") is not None


def train(
    entry: entry_lib.Entry,
    contestant: Contestant,
    seed: int,
    budget: training_runs.Budget,
    *,
    xla: bool,
) -> training_runs.Run:
    """Trains for the seconds of the budget.

    Args:
        entry: The task.
        contestant: What trains it.
        seed: Of the weights and the order of batches.
        budget: Seconds and points.
        xla: Whether XLA compiles the steps of a rival; ours decides by itself.
    """
    options = newton_options.read(contestant.settings)
    size = min(options.pop("batch_size", entry.newton_rows), entry.task.rows)
    label = f"{entry.task.name}: {contestant}, seed {seed}"
    jit, kind = str(xla).lower(), ""
    if contestant.method == OURS:
        optimizer = keras_sfn.SaddleFreeNewton(**options)
        records, first = training_runs.train_newton(
            entry.task, label, optimizer, size, seed, budget
        )
        jit, kind = str(options.get("jit_compile", "auto")).lower(), optimizer.last_step.kind
    elif contestant.method == LBFGS:
        # Here, because TensorFlow Probability is an extra.
        from benchmarks.time_to_loss import lbfgs

        records, first = lbfgs.train(entry.task, label, options["memory"], seed, budget, xla=xla)
    else:
        records, first = training_runs.train_first_order(
            entry.task,
            label,
            first_order.OPTIMIZERS[contestant.method](options["rate"]),
            size,
            seed,
            budget,
            at_once=entry.steps_at_once,
            xla=xla,
        )
    return training_runs.Run(*contestant, seed, jit, first, records, kind)


def xla_is_faster(entry: entry_lib.Entry, contestant: Contestant) -> bool:
    """Tells from a short trial whether a rival's step takes less time with XLA."""
    options = newton_options.read(contestant.settings)
    if contestant.method == LBFGS:
        from benchmarks.time_to_loss import lbfgs

        return lbfgs.xla_is_faster(entry.task, options["memory"])
    make = first_order.OPTIMIZERS[contestant.method]
    return training_runs.xla_is_faster(
        entry.task, lambda: make(options["rate"]), options["batch_size"], entry.steps_at_once
    )
