"""What a contest says: ours against the best rival, a line a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.suite import contest as contest_lib
from benchmarks.suite import contestants
from benchmarks.time_to_loss import results, training_runs

# A run whose lowest loss fell by less than this part in its second half did not move.
_PROGRESS = 0.01


class Setup(NamedTuple):
    """What all lines of a task have in common.

    Attributes:
        task: Its name.
        kind: `"deterministic"` or `"mini-batch"`.
        figure: Name of the second figure, such as the error of a solution; empty without.
        seconds: Of each training.
    """

    task: str
    kind: str
    figure: str
    seconds: float


class Side(NamedTuple):
    """One side of a comparison: medians over its seeds.

    Attributes:
        who: The contestant.
        loss: At the end, on all rows in inference mode.
        error: The second figure at the end; NaN without.
        first_step_seconds: Until the first step was done.
        steps: Taken.
        seeds: How many trainings.
    """

    who: str
    loss: float
    error: float
    first_step_seconds: float
    steps: float
    seeds: int


class Summary(NamedTuple):
    """Ours against the best rival.

    Attributes:
        setup: Of the task.
        ours: Ours.
        rival: The best of the others.
        losses: Those of ours at the end, ascending.
        time: Part of a training's seconds after which ours had the rival's loss; infinite: never.
        whole_time: The same on clocks that start before the first step.
        step_kind: Of ours.
        stuck: From how many seeds ours was stuck.
    """

    setup: Setup
    ours: Side
    rival: Side
    losses: tuple[float, ...]
    time: float
    whole_time: float
    step_kind: str
    stuck: int

    @property
    def over_rival(self) -> float:
        """The loss of ours over the rival's."""
        return self.ours.loss / self.rival.loss


def summarise(setup: Setup, groups: contest_lib.Groups) -> list[Summary]:
    """Returns a line for each variant of ours; none without a rival."""
    rivals = {each: runs for each, runs in groups.items() if each.method != contestants.OURS}
    if not rivals:
        return []
    rival = best_rival(rivals)
    other = side(rival, rivals[rival])
    lines = []
    for ours, runs in groups.items():
        if ours.method != contestants.OURS:
            continue
        reached = [results.reached(contest_lib.by_loss(run), other.loss)[0] for run in runs]
        whole = [
            seconds + run.first_step_seconds for seconds, run in zip(reached, runs, strict=True)
        ]
        line = Summary(
            setup=setup,
            ours=side(ours, runs),
            rival=other,
            losses=tuple(sorted(run.records[-1].loss for run in runs)),
            time=float(np.median(reached)) / setup.seconds,
            whole_time=float(np.median(whole)) / (setup.seconds + other.first_step_seconds),
            step_kind=runs[0].kind,
            stuck=sum(is_stuck(run, other.loss) for run in runs),
        )
        lines.append(line)
    return lines


def best_rival(groups: contest_lib.Groups) -> contestants.Contestant:
    """Returns the one with the lowest median loss of those with the most seeds."""
    most = max(len(runs) for runs in groups.values())
    finalists = [each for each, runs in groups.items() if len(runs) == most]
    return min(finalists, key=lambda each: median_loss(groups[each]))


def median_loss(runs: Sequence[training_runs.Run]) -> float:
    """Returns the median of the losses at the end."""
    return results.median_final([contest_lib.by_loss(run) for run in runs])


def side(who: contestants.Contestant, runs: Sequence[training_runs.Run]) -> Side:
    """Returns the medians of one contestant."""

    def median(figure: Callable[[training_runs.Run], float]) -> float:
        return float(np.median([figure(run) for run in runs]))

    return Side(
        who=str(who),
        loss=median_loss(runs),
        error=median(lambda run: run.records[-1].figure),
        first_step_seconds=median(lambda run: run.first_step_seconds),
        steps=median(lambda run: run.records[-1].steps),
        seeds=len(runs),
    )


def is_stuck(run: training_runs.Run, target: float) -> bool:
    """Tells whether a run did not move in its second half although it was above a target.

    A run that its optimizer ended early, or whose loss is not finite, is stuck too.
    """
    losses = [record.loss if math.isfinite(record.loss) else math.inf for record in run.records]
    middle = run.records[-1].seconds / 2
    before = min(
        loss for loss, record in zip(losses, run.records, strict=True) if record.seconds <= middle
    )
    return min(losses) > target and min(losses) > (1 - _PROGRESS) * before
