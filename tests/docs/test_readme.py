"""The README is short, its programs print what it shows, and its table tells the truth."""

import inspect
import pathlib
import re

import pytest

import keras_sfn

README = (pathlib.Path(__file__).parents[2] / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def run(program):
    exec(compile(program, "README.md", "exec"), {"__name__": "__readme__"})


def test_the_example_prints_what_is_shown(capsys):
    run(PROGRAMS[0])
    printed = capsys.readouterr().out
    shown = re.search(r"```python\n.*?```\n\n```text\n(.*?)```", README, re.DOTALL)[1]
    assert NUMBER.sub("0", printed) == NUMBER.sub("0", shown)
    numbers = [[float(x) for x in NUMBER.findall(text)] for text in (printed, shown)]
    epochs, losses = ([values[part::2] for values in numbers] for part in (0, 1))
    assert epochs[0] == epochs[1] == [1, 5, 60]
    # Rounding, which differs from one processor to the next, grows: by epoch 10 to a fifth.
    assert losses[0][:2] == pytest.approx(losses[1][:2], rel=0.02)
    assert losses[1][2] / 3 < losses[0][2] < losses[1][2] * 3


@pytest.mark.parametrize("program", PROGRAMS[1:], ids=range(1, len(PROGRAMS)))
def test_programs_run(program):
    run(program)


@pytest.mark.checkout
def test_there_are_600_to_800_words_outside_of_code():
    words = re.sub(r"```.*?```", "", README, flags=re.DOTALL).split()
    assert 600 <= len(words) <= 800


@pytest.mark.checkout
def test_the_first_two_blocks_of_sh_are_the_commands_that_ci_runs():
    commands = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    start = "python3 -m venv .venv && . .venv/bin/activate && pip install -e "
    assert commands[0] == start + "'.[examples]' && python examples/autoencoder.py\n"
    assert commands[1] == start + "'.[test]' && pytest -n 2 -m \"not slow\"\n"


@pytest.mark.checkout
def test_supported_versions_are_those_of_the_project():
    project = (pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text()
    text = " ".join(README.split())
    for name, requirement in {
        "Python": "requires-python = ",
        "TensorFlow": "dependencies = ",
        "Keras": "dependencies = ",
    }.items():
        package = "" if name == "Python" else name.lower()
        [line] = re.findall(f"^{requirement}.*", project, re.MULTILINE)
        lowest = re.search(rf'"{package}>=([\d.]+)"', line)[1]
        assert f"{name} {lowest} or newer" in text


@pytest.mark.checkout
def test_the_table_names_arguments_with_their_defaults():
    table = README[README.index("## Arguments") :].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE)
    parameters = inspect.signature(keras_sfn.SaddleFreeNewton).parameters
    assert rows
    for name, shown in rows:
        default = parameters[name].default
        assert shown == (f'`"{default}"`' if isinstance(default, str) else str(default)), name
