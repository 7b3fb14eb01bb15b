"""The documents' programs run, and what they name exists."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "docs" / "benchmarks.md",
    ROOT / "docs" / "contributing.md",
    ROOT / "docs" / "experiments.md",
    ROOT / "docs" / "distributed.md",
]
PROGRAMS = [
    program
    for document in DOCUMENTS[1:]
    for program in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
]


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_run(program):
    exec(compile(program, "docs", "exec"), {"__name__": "__docs__"})


@pytest.mark.checkout
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_sources_exist(document):
    text = document.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    sources = re.findall(r"`((?:keras_sfn|tests|examples|\.ci)/[\w/]+\.py)`", text)
    assert sources
    missing = [link for link in links if not (document.parent / link).exists()]
    missing += [source for source in sources if not (ROOT / source).exists()]
    assert missing == []
