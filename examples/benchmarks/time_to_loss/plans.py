"""Which trainings `compare.py` compares, and how each is started."""

from __future__ import annotations

import functools
import itertools
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras_sfn
from benchmarks.common import first_order
from benchmarks.common import task as task_lib
from benchmarks.time_to_loss import hessianlearn_runs, lbfgs, training_runs
from benchmarks.time_to_loss import settings as settings_lib

FIRST_ORDER = {name: first_order.OPTIMIZERS[name] for name in ("adam", "sgd")}
# Of each of these the best of a grid is compared, of the others every setting.
TUNED = (*FIRST_ORDER, hessianlearn_runs.NAME)
METHODS = ("newton", *FIRST_ORDER, "lbfgs", hessianlearn_runs.NAME)

# What a run returns: its records, seconds until the first step was done, and whether XLA did it.
Outcome = tuple[list[training_runs.Record], float, str]
# (method, settings) -> what trains from a seed, under a label.
Plan = dict[tuple[str, str], Callable[[int, str], Outcome]]


class Choices(NamedTuple):
    """What is the same for all settings of a method.

    Attributes:
        points: Records of a run.
        adam_jit: Whether XLA compiles Adam and SGD: "true", "false", or "auto" for what is faster.
        lbfgs_jit: The same of L-BFGS.
        at_once: Steps of Adam and SGD before Keras is back in Python.
        hessian_rows: Rows of hessianlearn's products; None for all of a step.
        environments: Where the peers' are.
    """

    points: int
    adam_jit: str
    lbfgs_jit: str
    at_once: int
    hessian_rows: int | None
    environments: pathlib.Path


class Benchmark:
    """Plans the trainings of one task.

    Args:
        task: What is trained.
        settings: Budget and grids.
        variants: Those of saddle-free Newton.
        memories: Those of L-BFGS.
        choices: What is the same for all settings.
    """

    def __init__(
        self,
        task: task_lib.Task,
        settings: settings_lib.Settings,
        variants: Sequence[settings_lib.Variant],
        memories: Sequence[int],
        choices: Choices,
    ) -> None:
        self._task = task
        self._settings = settings
        self._choices = choices
        self._budget = training_runs.Budget(settings.seconds, choices.points)
        self._variants = variants
        self._memories = memories
        # Whether XLA is faster is tried once a batch size.
        self._first_order_xla = functools.cache(self._try_first_order)
        self._lbfgs_xla = functools.cache(functools.partial(lbfgs.xla_is_faster, task))

    def plan(self, method: str) -> Plan:
        """Returns the runs of a method: of one that is tuned, the whole grid."""
        if method in FIRST_ORDER:
            sizes = dict.fromkeys(min(size, self._task.rows) for size in self._settings.batch_sizes)
            return {
                (method, f"rate {rate:g}, batch {size}"): functools.partial(
                    self._first_order, method, rate, size
                )
                for rate, size in itertools.product(self._rates(method), sizes)
            }
        if method == "newton":
            return {
                (method, variant.settings): functools.partial(self._newton, variant)
                for variant in self._variants
            }
        if method == "lbfgs":
            return {
                (method, f"memory {memory}"): functools.partial(self._lbfgs, memory)
                for memory in self._memories
            }
        rows = self._choices.hessian_rows
        suffix = "" if rows is None else f", Hessian of {rows} rows"
        return {
            (method, f"{setting}{suffix}"): functools.partial(self._hessianlearn, setting)
            for setting in self._settings.hessianlearn
        }

    def at_the_edge(self, method: str, key: tuple[str, str]) -> bool:
        """Tells whether a run of the grid has the lowest or the highest of several rates."""
        if method not in FIRST_ORDER:
            return False
        rates = self._rates(method)
        edges = [f"rate {rate:g}," for rate in (min(rates), max(rates))]
        return len(rates) > 1 and key[1].startswith(tuple(edges))

    def _rates(self, method: str) -> tuple[float, ...]:
        return self._settings.adam_rates if method == "adam" else self._settings.sgd_rates

    def _try_first_order(self, size: int) -> bool:
        rate = self._settings.adam_rates[0]
        make = functools.partial(FIRST_ORDER["adam"], rate)
        return training_runs.xla_is_faster(self._task, make, size, self._choices.at_once)

    def _first_order(self, method: str, rate: float, size: int, seed: int, label: str) -> Outcome:
        jit, at_once = self._choices.adam_jit, self._choices.at_once
        xla = self._first_order_xla(size) if jit == "auto" else jit == "true"
        optimizer = FIRST_ORDER[method](rate)
        records, first = training_runs.train_first_order(
            self._task, label, optimizer, size, seed, self._budget, at_once=at_once, xla=xla
        )
        return records, first, str(xla).lower()

    def _second_order_rows(self, wanted: int | None = None) -> int:
        rows = wanted or self._settings.newton_batch_size or self._task.rows
        return min(rows, self._task.rows)

    def _newton(self, variant: settings_lib.Variant, seed: int, label: str) -> Outcome:
        size = self._second_order_rows(variant.batch_size)
        records, first = training_runs.train_newton(
            self._task,
            label,
            keras_sfn.SaddleFreeNewton(**variant.options),
            size,
            seed,
            self._budget,
        )
        return records, first, str(variant.options.get("jit_compile", "auto")).lower()

    def _lbfgs(self, memory: int, seed: int, label: str) -> Outcome:
        jit = self._choices.lbfgs_jit
        xla = self._lbfgs_xla(memory) if jit == "auto" else jit == "true"
        records, first = lbfgs.train(self._task, label, memory, seed, self._budget, xla=xla)
        return records, first, str(xla).lower()

    def _hessianlearn(self, setting: hessianlearn_runs.Setting, seed: int, label: str) -> Outcome:
        batch = self._second_order_rows()
        rows = hessianlearn_runs.Rows(batch, min(self._choices.hessian_rows or batch, batch))
        records, first = hessianlearn_runs.train(
            self._task, label, setting, rows, seed, self._budget, self._choices.environments
        )
        return records, first, "false"
