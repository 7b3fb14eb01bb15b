"""Keeps every finished training of a task as a file, so that a contest can be interrupted."""

from __future__ import annotations

import json
import pathlib
import sys
import urllib.parse
from collections.abc import Callable
from typing import Any

from benchmarks.suite import contestants, starters
from benchmarks.time_to_loss import training_runs


class Store:
    """The trainings of one task.

    Args:
        folder: For its files; made where it is missing.
        setup: One line that says what is trained; files of another setup are refused.
    """

    def __init__(self, folder: pathlib.Path, setup: str) -> None:
        self._folder = folder
        self._setup = setup
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, contestant: contestants.Contestant, seed: int) -> training_runs.Run | None:
        """Returns a training, or None where there is none yet.

        Raises:
            SystemExit: It is of another setup.
        """
        values = self._read(_name(contestant, f"seed {seed}"))
        return None if values is None else starters.read_run(values)

    def keep(self, run: training_runs.Run) -> None:
        """Writes a training."""
        contestant = contestants.Contestant(run.method, run.settings)
        self._write(_name(contestant, f"seed {run.seed}"), run)

    def xla(self, contestant: contestants.Contestant, tried: Callable[[], bool]) -> bool:
        """Returns what a trial of XLA found, which is made once."""
        name = _name(contestant, "xla")
        found = self._read(name)
        if found is None:
            found = tried()
            self._write(name, found)
        return found

    def _read(self, name: str) -> Any:
        path = self._folder / name
        if not path.exists():
            return None
        content = json.loads(path.read_text())
        if content["setup"] != self._setup:
            sys.exit(
                f"{path} is of `{content['setup']}`, not of `{self._setup}`. Name another "
                "--output_dir."
            )
        return content["result"]

    def _write(self, name: str, result: Any) -> None:
        # Renamed when it is whole: a file that is there is never half of one.
        part = self._folder / f"{name}.part"
        part.write_text(json.dumps({"setup": self._setup, "result": result}))
        part.replace(self._folder / name)


def _name(contestant: contestants.Contestant, what: str) -> str:
    """Returns a file name; different settings have different ones."""
    return urllib.parse.quote(f"{contestant}, {what}", safe="(),= ") + ".json"
