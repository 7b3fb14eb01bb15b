"""The documents' programs run, what they name exists, and their words are plain."""

import pathlib
import re

import pytest

from keras_sfn import callbacks

ROOT = pathlib.Path(__file__).parents[2]
# In full, so that BUILD has them among the files of this test.
PAGES = [
    "README.md",
    "CHANGELOG.md",
    "docs/benchmarks.md",
    "docs/clients.md",
    "docs/contributing.md",
    "docs/curvature_coverage.md",
    "docs/distributed.md",
    "docs/experiments.md",
    "docs/losses.md",
    "docs/pde.md",
    "docs/reference.md",
    "docs/research.md",
    "docs/training.md",
    "docs/tutorial.md",
]
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}
TUTORIAL = "docs/tutorial.md"
PROGRAMS = {
    f"{page} {number}": program
    for page, text in TEXTS.items()
    if page not in ("README.md", TUTORIAL)
    for number, program in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
}
# Idioms that say less than the noun or the figure in their place would.
VAGUE = re.compile(r"what came (?:of|out)|\bstands? for\b|\bgoes on\b", re.IGNORECASE)
# Results of experiments and the page of layers have their reasons for longer cells.
BRIEF = [
    "README.md",
    "docs/contributing.md",
    "docs/losses.md",
    "docs/pde.md",
    "docs/reference.md",
    "docs/training.md",
    TUTORIAL,
]


def run(program, page):
    exec(compile(program, page, "exec"), {"__name__": "__docs__"})


def without_code(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def slugs(text):
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize(
    "page",
    [
        # These take longest, and their subjects have quick tests of their own.
        pytest.param(page, marks=pytest.mark.slow)
        if page.startswith(("docs/distributed", "docs/pde"))
        else page
        for page in PROGRAMS
    ],
)
def test_programs_run(page):
    run(PROGRAMS[page], page)


@pytest.mark.slow
def test_the_tutorial_is_one_program_that_runs(tmp_path, monkeypatch):
    # It saves a model.
    monkeypatch.chdir(tmp_path)
    run("\n".join(re.findall(r"```python\n(.*?)```", TEXTS[TUTORIAL], re.DOTALL)), TUTORIAL)


@pytest.mark.checkout
def test_all_pages_are_looked_at():
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= set(PAGES)


@pytest.mark.checkout
@pytest.mark.parametrize("page", PAGES)
def test_links_and_named_sources_exist(page):
    text = TEXTS[page]
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text)
    targets = [(ROOT / page).parent / link if link else ROOT / page for link, _ in links]
    sources = re.findall(r"(?<![\w/])((?:keras_sfn|tests|examples|\.ci)/[\w/]+\.py)\b", text)
    missing = [str(target) for target in targets if not target.exists()]
    missing += [source for source in sources if not (ROOT / source).exists()]
    missing += [
        f"{link}#{anchor}"
        for (link, anchor), target in zip(links, targets, strict=True)
        if anchor and target.exists() and anchor not in slugs(target.read_text())
    ]
    assert missing == []


@pytest.mark.checkout
@pytest.mark.parametrize("page", PAGES)
def test_words_are_plain(page):
    assert VAGUE.findall(" ".join(without_code(TEXTS[page]).split())) == []


@pytest.mark.checkout
@pytest.mark.parametrize("page", BRIEF)
def test_cells_of_tables_have_at_most_25_words(page):
    rows = re.findall(r"^\|.*\|$", without_code(TEXTS[page]), re.MULTILINE)
    cells = [cell.strip() for row in rows for cell in re.split(r"(?<!\\)\|", row)]
    assert cells
    assert [cell for cell in cells if len(cell.split()) > 25] == []


@pytest.mark.checkout
def test_figures_are_those_of_the_logger():
    training = TEXTS["docs/training.md"]
    table = training[training.index("## Reading the figures") :].split("\n\n| what you see")[0]
    shown = [
        name
        for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
        for name in row.split(", ")
    ]
    assert [name.strip("`") for name in shown] == list(callbacks.FIGURES)
