"""The README's programs run as they stand, and its tables tell the truth."""

import inspect
import pathlib
import re

import pytest

import keras_sfn
from keras_sfn import callbacks

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TRAINING = (ROOT / "docs" / "training.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README + TRAINING, re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_run(program):
    exec(compile(program, "README.md", "exec"), {"__name__": "__readme__"})


def test_links_lead_somewhere():
    for page, text in ((ROOT / "README.md", README), (ROOT / "docs" / "training.md", TRAINING)):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (page.parent / link).exists(), link


def test_figures_are_those_of_the_logger():
    table = TRAINING[TRAINING.index("## Reading the figures") :].split("\n## ")[0]
    shown = [
        name
        for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
        for name in row.split(", ")
    ]
    assert [name.strip("`") for name in shown] == list(callbacks.FIGURES)


def test_there_are_programs_and_two_commands_of_set_up():
    assert len(PROGRAMS) >= 2
    commands = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert [c.count("\n") for c in commands[:2]] == [1, 1]
    assert "python examples/autoencoder.py" in commands[0]
    assert "pytest" in commands[1]


def test_the_table_names_arguments_with_their_defaults():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", README, re.MULTILINE))
    parameters = inspect.signature(keras_sfn.SaddleFreeNewton).parameters
    keras_own = {"weight_decay", "use_ema", "ema_momentum", "ema_overwrite_frequency", "name"}
    assert set(rows) == set(parameters) - keras_own - {"kwargs"}
    for name, shown in rows.items():
        default = parameters[name].default
        expected = f'`"{default}"`' if isinstance(default, str) else str(default)
        assert shown == expected, name
