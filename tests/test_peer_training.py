"""The grid of a peer's training as a user runs it, without the peer."""

import pathlib

import pytest
import scripts

EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "benchmarks" / "peer_training.py"


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
    assert scripts.refusal(EXAMPLE, argument).startswith(message)
