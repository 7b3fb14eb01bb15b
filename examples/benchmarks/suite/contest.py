"""Trains a task with all contestants, and tunes the rivals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.common import measure
from benchmarks.suite import contestants, starters, tuning
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import store as store_lib
from benchmarks.time_to_loss import results, training_runs

# Contestant -> its trainings, one a seed.
Groups = dict[contestants.Contestant, list[training_runs.Run]]

LBFGS_MEMORIES = (10, 50)


class Contest:
    """All trainings of one task; what is in the store is not trained again.

    Args:
        entry: The task.
        store: Of its trainings.
        starter: What trains.
        farthest: Moves that the search for a rival's rate and batch may lead from its start.
    """

    def __init__(
        self,
        entry: entry_lib.Entry,
        store: store_lib.Store,
        starter: starters.Starter,
        farthest: int,
    ) -> None:
        self._entry = entry
        self._store = store
        self._starter = starter
        self._farthest = farthest

    def run(
        self,
        methods: Sequence[str],
        variants: Sequence[str],
        seeds: Sequence[int],
        finalists: int,
    ) -> Groups:
        """Trains what is missing.

        Rivals are tuned on the first seed. Ours, and the best of them, train from all seeds.

        Args:
            methods: Which take part.
            variants: Settings of ours.
            seeds: At least one.
            finalists: How many rivals train from the other seeds.

        Returns:
            Each variant of ours, and the best settings of each rival, the lowest loss first. What
            failed from every seed is left out.
        """
        groups: Groups = {}
        for text in variants if contestants.OURS in methods else ():
            ours = contestants.Contestant(contestants.OURS, text)
            groups[ours] = self._all(ours, seeds)
        rivals = {
            rival: self._loss(rival, seeds[0])
            for method in methods
            for rival in self._best(method, seeds[0])
        }
        for place, rival in enumerate(sorted(rivals, key=rivals.__getitem__)):
            groups[rival] = self._all(rival, seeds if place < finalists else seeds[:1])
        return {contestant: runs for contestant, runs in groups.items() if runs}

    def _best(self, method: str, seed: int) -> list[contestants.Contestant]:
        """Returns a rival with its best settings; none where it cannot take part."""
        if method == contestants.LBFGS and self._entry.deterministic:
            tried = [contestants.Contestant(method, f"memory={m}") for m in LBFGS_MEMORIES]
            return [min(tried, key=lambda each: self._loss(each, seed))]
        if method in (contestants.OURS, contestants.LBFGS):
            return []

        def loss(rate: float, size: int) -> float:
            return self._loss(contestants.first_order_contestant(method, rate, size), seed)

        start = contestants.START_RATES[method] * self._entry.rate
        found = tuning.descend(loss, start, self._entry.rival_rows, self._farthest)
        return [contestants.first_order_contestant(method, *found)]

    def _all(
        self, contestant: contestants.Contestant, seeds: Sequence[int]
    ) -> list[training_runs.Run]:
        runs = (self._run(contestant, seed) for seed in seeds)
        return [run for run in runs if run is not None]

    def _loss(self, contestant: contestants.Contestant, seed: int) -> float:
        run = self._run(contestant, seed)
        return math.inf if run is None else results.final(by_loss(run))

    def _run(self, contestant: contestants.Contestant, seed: int) -> training_runs.Run | None:
        """Returns a training, new or from the store; None where it failed."""
        found = self._store.find(contestant, seed)
        if found is not None:
            return found
        label = f"{self._entry.task.name}: {contestant}, seed {seed}"
        rival = contestant.method != contestants.OURS
        xla = rival and self._store.xla(
            _of_the_same_cost(contestant), lambda: self._starter.xla_is_faster(contestant)
        )
        try:
            run = self._starter.train(contestant, seed, xla=xla)
        except measure.ProgramError as error:
            # Not kept: the next command tries again.
            print(f"{label} failed: {error}", flush=True)
            return None
        self._store.keep(run)
        last = run.records[-1]
        print(
            f"{label}: loss {last.loss:.4g} after {last.steps} steps in {last.seconds:.3g} s, "
            f"the first after {run.first_step_seconds:.3g} s",
            flush=True,
        )
        return run


def by_loss(run: training_runs.Run) -> training_runs.Run:
    """Returns the run with the loss as the figure that counts."""
    return run._replace(records=[record._replace(figure=record.loss) for record in run.records])


def _of_the_same_cost(contestant: contestants.Contestant) -> contestants.Contestant:
    """Returns the contestant without its rate, which does not matter for what a step takes."""
    settings = contestant.settings.split(",")
    kept = ",".join(part for part in settings if not part.startswith("rate="))
    return contestant._replace(settings=kept)
