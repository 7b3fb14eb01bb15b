"""What command lines share: refusals in a line, folders, short forms."""

from __future__ import annotations

import pathlib

import pytest
from absl import flags

from helpers import command_line


def test_a_short_form_sets_flags():
    flags.DEFINE_integer("measured_rows", 3, "For this test.")
    flags.FLAGS.mark_as_parsed()
    command_line.set_flags({"measured_rows": 5})
    assert flags.FLAGS.measured_rows == 5


def test_integers_of_a_flag():
    assert command_line.positive_integers("rows", ["64", "1e4"]) == [64, 10_000]
    assert command_line.positive_integers("rows", [], least=0) == []


@pytest.mark.parametrize("values", [["0"], ["x"], ["1.5"], ["inf"], ["nan"], ["-3"], []])
def test_what_is_no_integer_is_refused(values: list[str]):
    with pytest.raises(SystemExit, match=r"--rows=.* must be integers >= 1"):
        command_line.positive_integers("rows", values)


def test_arguments_that_are_no_flags_are_refused():
    command_line.refuse_arguments(["script"])
    with pytest.raises(SystemExit, match=r"Unknown arguments: \['more'\]"):
        command_line.refuse_arguments(["script", "more"])


def test_output_directory_makes_parents(tmp_path: pathlib.Path):
    assert command_line.output_directory(str(tmp_path / "a" / "b")).is_dir()


def test_a_directory_that_cannot_be_made_is_said_in_a_line(tmp_path: pathlib.Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"--output_dir=.*file/x cannot be made: Not a directory"):
        command_line.output_directory(str(tmp_path / "file" / "x"))
