"""The grid of a peer's training as a user runs it, without the peer."""

import os
import pathlib
import subprocess
import sys

import pytest

EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "benchmarks" / "peer_training.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--environments=nowhere",
            "There is no environment of hessianlearn in nowhere. Make it: py",
        ),
        ("64", "Unknown arguments: ['64']. Every setting is a --flag."),
    ],
)
def test_errors_are_one_line(argument, message):
    result = subprocess.run(
        [sys.executable, str(EXAMPLE), argument],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(EXAMPLE.parents[2]), *sys.path])},
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(message)
    assert "Traceback" not in result.stderr
