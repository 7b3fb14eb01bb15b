"""Tests for examples/benchmarks/peers/environments.py and its script; nothing is installed."""

from __future__ import annotations

import sys

import pytest

from benchmarks.peers import environments
from tests import scripts

SCRIPT = scripts.EXAMPLES / "benchmarks/peers/make_environments.py"


@pytest.fixture
def checkout(tmp_path):
    """Looks like a checkout of each repository."""
    folder = tmp_path / "checkout"
    for environment in environments.ENVIRONMENTS.values():
        if environment.repository:
            (folder / environment.contains).parent.mkdir(parents=True)
            (folder / environment.contains).touch()
    return folder


@pytest.fixture
def interpreter(tmp_path):
    """Writes down its arguments, and makes a folder for `-m venv`; fails where told."""
    path = tmp_path / "python"
    path.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/calls\n'
        f'if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp {path} "$3/bin/python"; fi\n'
        f"[ ! -e {tmp_path}/fail ]\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def run(tmp_path, interpreter):
    """Runs the script with flags."""

    def run(**flags):
        flags = {"python": interpreter, "environments": tmp_path / "environments"} | flags
        given = [f"--{name}={value}" for name, value in flags.items()]
        return scripts.run(SCRIPT, *given, check=False)

    return run


def test_an_environment_has_its_packages_and_a_link(tmp_path, checkout, run):
    directory = tmp_path / "environments"
    lacks = environments.lacks(directory, "spectral_density")
    assert "Make it: python examples/benchmarks/peers/make_environments.py" in lacks
    # A second time brings it up to date.
    for _ in range(2):
        result = run(only="jax,spectral_density", spectral_density=checkout)
        assert result.returncode == 0, result.stderr
    for name in ("jax", "spectral_density"):
        assert environments.lacks(directory, name) == ""
    assert environments.repository_of(directory, "spectral_density").resolve() == checkout
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == f"-m venv {directory}/jax"
    assert calls[1] == "-m pip install --upgrade --quiet jax>=0.4.30 matfree>=0.6"
    assert len(calls) == 8


def test_a_link_to_a_folder_that_has_gone_is_an_environment_that_lacks(
    tmp_path, checkout, interpreter
):
    directory = tmp_path / "environments"
    environments.make("hessianlearn", directory, checkout, str(interpreter))
    assert environments.lacks(directory, "hessianlearn") == ""
    checkout.rename(tmp_path / "moved")
    message = environments.lacks(directory, "hessianlearn")
    assert "--only=hessianlearn --hessianlearn=FOLDER" in message
    assert "a checkout of tomoleary/hessianlearn" in message


@pytest.mark.parametrize("folder", [None, "nowhere"])
def test_a_repository_must_be_named(folder):
    message = f"^--spectral_density must name a checkout .* Received: --spectral_density={folder}"
    with pytest.raises(ValueError, match=message):
        environments.checkout("spectral_density", folder)
    assert environments.checkout("jax", folder) is None


def test_the_script_looks_at_all_before_it_makes_one(tmp_path, run):
    result = run()
    assert result.returncode == 1
    assert result.stderr.startswith("--spectral_density must name a checkout of github.com/google/")
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize("only", ["", "keras"])
def test_unknown_environments_are_refused(run, only):
    result = run(only=only)
    known = "jax,curvlinops,spectral_density,hessianlearn"
    message = f"--only={only} must name some of {known}.\n"
    assert (result.returncode, result.stderr) == (1, message)


def test_a_failure_ends_in_a_line(tmp_path, run):
    (tmp_path / "fail").touch()
    result = run(only="jax")
    assert result.returncode == 1
    assert result.stderr == (
        f"jax: exit status 1 of {tmp_path}/python -m venv {tmp_path}/environments/jax\n"
    )


def test_a_program_returns_what_it_printed_or_the_last_it_said():
    assert environments.run([sys.executable, "-c", "print(1)"]) == "1\n"
    with pytest.raises(
        environments.ProgramError, match=r"^Exit status 3 .* last it said: nothing$"
    ):
        environments.run([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_program_sees_the_path_it_is_given(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    command = [sys.executable, "-c", "import os; print(os.environ.get('PYTHONPATH'))"]
    assert environments.run(command) == "None\n"
    assert environments.run(command, "here") == "here\n"
