"""Programs find the examples' modules by themselves, wherever below `examples` they lie."""

import re

import pytest

from tests import scripts

PROGRAMS = [
    path
    for folder in ("benchmarks", "clients")
    for path in sorted((scripts.EXAMPLES / folder).rglob("*.py"))
    if "__main__" in path.read_text()
]


NAMES = [f"{path.parent.name}/{path.stem}" for path in PROGRAMS]


@pytest.mark.checkout
@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_a_program_adds_the_folder_to_the_path_before_it_imports_from_it(program):
    lines = program.read_text().splitlines()
    depth = len(program.relative_to(scripts.EXAMPLES).parts) - 1
    added = lines.index(
        f"sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[{depth}]))"
    )
    imports = [
        i for i, line in enumerate(lines) if re.match(r"(from|import) (benchmarks|clients)\b", line)
    ]
    assert added < min(imports)


@pytest.mark.checkout
def test_no_other_module_changes_the_path():
    others = set(scripts.EXAMPLES.rglob("*.py")) - set(PROGRAMS)
    changed = {path.name for path in others if "sys.path." in path.read_text()}
    # For repositories that are no packages.
    assert changed == {"legacy_network.py"}
