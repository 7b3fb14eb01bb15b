"""The folders of the package are its architecture: what each may import."""

import ast
import pathlib

import pytest

import keras_sfn

PACKAGE = pathlib.Path(keras_sfn.__file__).parent
# From the ground up: a room imports those before it, and itself.
ROOMS = [
    "backend",
    "krylov",
    "newton",
    "objective",
    "curvature",
    "preconditioner",
    "optimizers",
    "fit",
]
# They know tensors and functions alone, so that they can be read, tested and ported by themselves.
WITHOUT_KERAS = ("krylov", "newton")
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imports(path):
    """Returns the modules that a file imports, by their full names."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def files_of(path):
    """Returns the files of the package that a file imports."""
    names = [tuple(name.split(".")) for name in imports(path) if name.startswith("keras_sfn.")]
    dotted = {("keras_sfn", *other.with_suffix("").parts): other for other in FILES}
    # `from keras_sfn.room.module import name`: the module is one part shorter.
    found = [dotted.get(name) or dotted.get(name[:-1]) for name in names]
    return {other for other in found if other is not None}


def test_the_rooms_are_those_of_the_listing():
    assert {path.parts[0] for path in FILES if len(path.parts) > 1} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_import_runs_up(path):
    if len(path.parts) == 1:
        # Of the files beside the rooms only these are looked into from rooms.
        return
    allowed = ROOMS[: ROOMS.index(path.parts[0]) + 1]
    for other in files_of(path):
        room = other.parts[0] if len(other.parts) > 1 else None
        assert room in allowed or other.name == "validation.py", f"{path} imports {other}"


@pytest.mark.parametrize("room", WITHOUT_KERAS)
def test_numerics_import_neither_keras_nor_what_does(room):
    pending, seen = [path for path in FILES if path.parts[0] == room], set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        roots = {name.split(".")[0] for name in imports(path)}
        assert "keras" not in roots, path
        pending.extend(files_of(path))
    assert {path.parts[0] for path in seen} <= set(WITHOUT_KERAS)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_file_imports_itself_by_way_of_others(path):
    pending, seen = list(files_of(path)), set()
    while pending:
        other = pending.pop()
        assert other != path, f"{path} is imported by {sorted(map(str, seen))}"
        if other not in seen:
            seen.add(other)
            pending.extend(files_of(other))
