"""The patterns of docs/clients.md are models that any optimizer trains."""

import pytest

from tests import scripts

PROGRAM = scripts.EXAMPLES / "clients" / "compare.py"


@pytest.mark.slow
def test_a_pattern_with_a_train_step_of_its_own_trains_by_name(capsys):
    scripts.call(PROGRAM, "--only=style transfer", "--epochs=4", "--rows=8")
    # As it is found, and in the table at the end.
    row, again = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("| style transfer")
    ]
    assert row == again
    first, _, by_name = [float(cell) for cell in row.split("|")[2:5]]
    assert by_name < 0.5 * first
