"""Runs the project's scripts: as a user does, or in this process, where nothing has to start."""

import contextlib
import importlib
import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run(script, *arguments, check=True):
    """Runs a script in a process of its own and returns it with what it printed.

    A script has to find the examples' modules by itself: their folder, which pytest adds to the
    path, is not passed on.
    """
    folders = [path for path in sys.path if not pathlib.Path(path).is_relative_to(EXAMPLES)]
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        check=check,
        timeout=500,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *folders])},
    )


@contextlib.contextmanager
def loaded(script):
    """Imports a script and forgets it and its flags, whose names other scripts have too."""
    name = ".".join(script.relative_to(EXAMPLES).with_suffix("").parts)
    with flagsaver.flagsaver():
        try:
            module = importlib.import_module(name)
            flags.FLAGS.mark_as_parsed()
            yield module
        finally:
            sys.modules.pop(name, None)


def call(script, *arguments):
    """Does in this process what the command line does, up to a wrong flag's usage."""
    with loaded(script) as module:
        module.main(flags.FLAGS([str(script), *arguments]))


def refusal(script, *arguments):
    """Returns the line with which a script ends that does not take its arguments."""
    with pytest.raises((SystemExit, flags.Error)) as caught:
        call(script, *arguments)
    line = str(caught.value)
    # This is what Python prints where a program exits with a text, and absl of a wrong flag.
    assert isinstance(caught.value, flags.Error) or caught.value.code == line
    assert line
    assert "\n" not in line
    return line
