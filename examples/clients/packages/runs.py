"""A program of a package in a process of its own, and its rows of the table."""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import subprocess
import sys

_MARK = "RESULT "
_PROGRAM = pathlib.Path(__file__).with_name("compare.py")


def train(program: str, optimizer: str) -> None:
    """Prints the losses of a program, in this process."""
    import keras_sfn  # noqa: F401 (registers the name)

    module = importlib.import_module(f"clients.packages.programs.{program}")
    found = module.losses(optimizer)
    print(_MARK + json.dumps({"how": module.HOW, "losses": found}))


def run(program: str, optimizer: str, seconds: int) -> dict[str, object]:
    """Returns what `train` prints in a process of its own, or {"error": its last line}."""
    command = [sys.executable, str(_PROGRAM), f"--train={program},{optimizer}"]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow", **os.environ}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, env=environment
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {seconds} s"}
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            found: dict[str, object] = json.loads(line.removeprefix(_MARK))
            return found
    return {"error": (done.stderr.strip() or "no result").splitlines()[-1]}


def rows(program: str, adam: dict[str, object], ours: dict[str, object]) -> list[list[object]]:
    """Returns the rows of a program for the table.

    Args:
        program: Its name, for the row where nothing is known.
        adam: What `run` has returned by Adam.
        ours: The same by the optimizer of this package.
    """
    for found in (adam, ours):
        if "error" in found:
            who = "with Adam either" if found is adam else "here"
            return [[program, f"not {who}: {found['error']}", None, None, None]]
    first, second = adam["losses"], ours["losses"]
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    return [
        [case, ours["how"], before, after, second[case][1]]
        for case, (before, after) in first.items()
    ]
