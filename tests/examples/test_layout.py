"""Programs find the examples' modules by themselves, wherever below `examples` they lie."""

import re

import pytest

from tests import scripts

PROGRAMS = [
    path
    for path in sorted((scripts.EXAMPLES / "benchmarks").rglob("*.py"))
    if "__main__" in path.read_text()
]


@pytest.mark.checkout
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_adds_the_folder_to_the_path_before_it_imports_from_it(program):
    lines = program.read_text().splitlines()
    depth = len(program.relative_to(scripts.EXAMPLES).parts) - 1
    added = lines.index(
        f"sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[{depth}]))"
    )
    imports = [i for i, line in enumerate(lines) if re.match(r"(from|import) benchmarks\b", line)]
    assert added < min(imports)


@pytest.mark.checkout
def test_no_other_module_changes_the_path():
    others = set(scripts.EXAMPLES.rglob("*.py")) - set(PROGRAMS)
    changed = {path.name for path in others if "sys.path." in path.read_text()}
    # For repositories that are no packages.
    assert changed == {"legacy_network.py"}
