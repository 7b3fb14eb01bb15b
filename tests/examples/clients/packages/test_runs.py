"""Rows of the table of packages, and what each program has."""

import ast

import pytest

from clients.packages import runs
from tests import scripts

PROGRAMS = [
    path
    for path in sorted((scripts.EXAMPLES / "clients" / "packages" / "programs").glob("*.py"))
    if path.stem != "__init__"
]


def test_a_row_has_the_losses_of_both():
    adam = {"how": "by name", "losses": {"one": [2.0, 1.0], "two": [3.0, 2.5]}}
    ours = {"how": "by name", "losses": {"one": [2.0, 0.1], "two": [3.0, 0.2]}}
    assert runs.rows("program", adam, ours) == [
        ["one", "by name", 2.0, 1.0, 0.1],
        ["two", "by name", 3.0, 2.5, 0.2],
    ]


@pytest.mark.parametrize(
    ("adam", "ours", "expected"),
    [
        ({"error": "no"}, {"error": "no"}, "not with Adam either: no"),
        ({"how": "by name", "losses": {}}, {"error": "no"}, "not here: no"),
    ],
)
def test_what_does_not_train_says_why(adam, ours, expected):
    assert runs.rows("program", adam, ours) == [["program", expected, None, None, None]]


@pytest.mark.checkout
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_says_how_and_returns_losses(program):
    body = ast.parse(program.read_text()).body
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    assert [argument.arg for argument in functions["losses"].args.args] == ["optimizer"]
    names = {
        node.targets[0].id
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert "HOW" in names
