"""The page of the documentation says what the tests of coverage say."""

import importlib.metadata
import pathlib
import re

import pytest

from tests.whole import coverage_cases as cases
from tests.whole import coverage_table

PAGE = (pathlib.Path(__file__).parents[2] / "docs/curvature_coverage.md").read_text()
WRITTEN_WITH = re.search(r"with Keras (\S+) and", PAGE)[1]


def rows():
    for line in PAGE.splitlines():
        match = re.match(r"\| `(\w+)`[^|]*\| ([^|]*?) \|", line)
        if match:
            yield match.groups()


def test_the_page_lists_every_layer_activation_and_loss():
    if importlib.metadata.version("keras") != WRITTEN_WITH:
        pytest.skip(f"the page was written with Keras {WRITTEN_WITH}")
    listed = {name for name, _ in rows()}
    assert listed >= {*cases.classes(), *cases.ACTIVATIONS, *cases.LOSSES}


def test_the_page_refuses_what_the_tests_expect_to_be_refused():
    everything = [*cases.CASES.items(), *cases.AFTER_WEIGHTS.items()]
    expected = {name for name, case in everything if case.refused} | {*cases.REFUSED_LOSSES}
    assert {name for name, verdict in rows() if verdict == "refused"} == expected


def test_a_case_that_is_wrong_is_not_written():
    with pytest.raises(RuntimeError, match="Dense is not right"):
        coverage_table.row("Dense", cases.Outcome("wrong", 0.1, ""), "float64")


def test_rows():
    right = coverage_table.row("`Dense`", cases.Outcome("right", 2e-12, ""), "float32", "a note")
    assert right == "| `Dense` | right | 2e-12 | a note; float32 |"
    reason = "The loss has no right second derivative through X, in `net/layer`. Instead, Y."
    refused = coverage_table.row("`CTC`", cases.Outcome("refused", 0.0, reason), "float64")
    assert refused == "| `CTC` | refused | | has no right second derivative through X |"
