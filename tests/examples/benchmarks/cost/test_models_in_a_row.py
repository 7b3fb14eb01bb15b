"""The benchmark of models in a row in short form."""

import pytest

from tests import scripts

SCRIPT = scripts.EXAMPLES / "benchmarks/cost/models_in_a_row.py"
SHORT = ["--models=3", "--widths=12,8,4", "--rows=16", "--steps=2"]


@pytest.mark.parametrize("flags", [["--newton=krylov_dimension=2"], ["--optimizer=adam", "--seed"]])
def test_seconds_and_growth_are_told(flags, capsys):
    scripts.call(SCRIPT, *SHORT, *flags)
    first, made_with, two, later, growth = capsys.readouterr().out.splitlines()
    assert first.startswith("model 1: ")
    assert made_with.startswith(("newton, Python", "adam, Python"))
    assert two.startswith("first model: ")
    assert later.startswith("later models: median ")
    assert growth.startswith("growth after 2: ")
