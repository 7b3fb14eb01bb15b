"""Where a training takes place: in a process of its own, or in this one."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Protocol

import keras

from benchmarks.common import measure
from benchmarks.suite import contestants
from benchmarks.suite import entry as entry_lib
from benchmarks.time_to_loss import training_runs

_SCRIPT = pathlib.Path(__file__).parent / "train_one.py"

# A process that takes longer than its training time, ten times over, and so many seconds hangs.
_PATIENCE = 600


class Starter(Protocol):
    """Trains, and finds out whether XLA helps."""

    def train(
        self, contestant: contestants.Contestant, seed: int, *, xla: bool
    ) -> training_runs.Run:
        """Returns a finished training.

        Raises:
            ProgramError: It failed.
        """

    def xla_is_faster(self, contestant: contestants.Contestant) -> bool:
        """Tells whether XLA makes the steps of a rival faster."""


class Processes:
    """Starts a process for each training, so that none finds what another compiled.

    Args:
        task: Its name.
        form: In which it is made.
        budget: Of a training.
    """

    def __init__(self, task: str, form: entry_lib.Form, budget: training_runs.Budget) -> None:
        self._budget = budget
        self._flags = [f"--task={task}", f"--images={form.images}"]
        self._flags += [f"--seconds={budget.seconds}", f"--points={budget.points}"]
        if form.data_dir is not None:
            self._flags.append(f"--data_dir={form.data_dir}")

    def train(
        self, contestant: contestants.Contestant, seed: int, *, xla: bool
    ) -> training_runs.Run:
        """Returns a finished training of a new process."""
        return read_run(self._result(contestant, f"--seed={seed}", f"--xla={xla}"))

    def xla_is_faster(self, contestant: contestants.Contestant) -> bool:
        """Tries it in a new process; what XLA does not compile is not faster."""
        try:
            return self._result(contestant, "--trial")
        except measure.ProgramError as error:
            print(f"{contestant} is not compiled by XLA: {error}", flush=True)
            return False

    def _result(self, contestant: contestants.Contestant, *more: str) -> Any:
        own = [f"--method={contestant.method}", f"--settings={contestant.settings}"]
        patience = _PATIENCE + 10 * self._budget.seconds
        output = measure.run_program(_SCRIPT, [*self._flags, *own, *more], patience)
        return json.loads(output.splitlines()[-1])


class Here:
    """Trains in this process, without XLA, for the quick form.

    Args:
        entry: The task.
        budget: Of a training.
    """

    def __init__(self, entry: entry_lib.Entry, budget: training_runs.Budget) -> None:
        self._entry = entry
        self._budget = budget

    def train(
        self, contestant: contestants.Contestant, seed: int, *, xla: bool
    ) -> training_runs.Run:
        """Returns a finished training."""
        run = contestants.train(self._entry, contestant, seed, self._budget, xla=xla)
        keras.utils.clear_session()
        return run

    def xla_is_faster(self, contestant: contestants.Contestant) -> bool:
        """Says no, since to compile takes longer than the training."""
        del contestant
        return False


def read_run(values: list[Any]) -> training_runs.Run:
    """Returns a run from its JSON."""
    run = training_runs.Run(*values)
    return run._replace(records=[training_runs.Record(*record) for record in run.records])
