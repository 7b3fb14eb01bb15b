"""A test target of Bazel passes only where pytest does."""

import pathlib
import subprocess
import sys

import pytest

MAIN = pathlib.Path(__file__).parents[1] / "run_pytest.py"
SLOW = "import pytest\n@pytest.mark.slow\ndef test_slow(): pass\n"
CONFIGURATION = "[pytest]\nmarkers = slow"


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        ("def test_good(): pass\n", [], 0),
        ("def test_bad(): assert False\n", [], 1),
        (SLOW, ["-m", "not slow"], 0),
        (SLOW, ["-k", "no_such_name"], 0),
        (SLOW + "def test_bad(): assert False\n", ["-m", "not slow"], 1),
        ("", [], 5),
        ("def misspelt(): pass\n", ["-m", "not slow"], 5),
        ("import no_such_module\n", [], 2),
    ],
)
def test_exit_code(tmp_path, text, options, code):
    (tmp_path / "pytest.ini").write_text(CONFIGURATION)
    (tmp_path / "test_it.py").write_text(text)
    command = [sys.executable, str(MAIN), "test_it.py", *options]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stdout
