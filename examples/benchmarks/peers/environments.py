"""The virtual environments of the peers: what stands in each, how it is made and used."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

DIRECTORY = "results/peers/environments"
SCRIPT = "examples/benchmarks/peers/make_environments.py"


class ProgramError(Exception):
    """A program did not end well; the message says so in a line."""


class Environment(NamedTuple):
    """What a peer needs.

    Attributes:
        requirements: Public packages, as pip takes them.
        repository: owner/name on GitHub of a repository that is no package; empty without one.
        contains: A file of that repository, by which its folder is known.
    """

    requirements: tuple[str, ...]
    repository: str = ""
    contains: str = ""


ENVIRONMENTS = {
    "jax": Environment(("jax>=0.4.30", "matfree>=0.6")),
    "curvlinops": Environment(("torch>=2.6", "curvlinops-for-pytorch>=3.0")),
    "spectral_density": Environment(
        ("tensorflow>=2.18", "tf_keras>=2.18"),
        "google/spectral-density",
        "tf2/lanczos_algorithm.py",
    ),
    "hessianlearn": Environment(
        ("tensorflow>=2.18", "tf_keras>=2.18", "scipy"),
        "tomoleary/hessianlearn",
        "hessianlearn/algorithms/randomizedEigensolver.py",
    ),
}


def python_of(directory: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the interpreter of an environment, there or not."""
    return directory / name / "bin" / "python"


def repository_of(directory: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the link to the folder of an environment's repository, there or not."""
    return directory / name / "repository"


def checkout(name: str, folder: str | None) -> pathlib.Path | None:
    """Returns the folder of an environment's repository; None where it needs none.

    Raises:
        ValueError: No folder is named, or it is another.
    """
    environment = ENVIRONMENTS[name]
    if not environment.repository:
        return None
    if folder is None or not (pathlib.Path(folder) / environment.contains).exists():
        raise ValueError(
            f"--{name} must name a checkout of github.com/{environment.repository}, which holds "
            f"{environment.contains}. Received: --{name}={folder}. Name one, or leave {name} out "
            "of --only."
        )
    return pathlib.Path(folder).resolve()


def make(
    name: str, directory: pathlib.Path, repository: pathlib.Path | None, interpreter: str
) -> None:
    """Makes an environment, or brings it up to date.

    Raises:
        CalledProcessError: `venv` or `pip` failed; they have said why.
    """
    subprocess.run([interpreter, "-m", "venv", str(directory / name)], check=True)
    install = [str(python_of(directory, name)), "-m", "pip", "install", "--upgrade", "--quiet"]
    subprocess.run([*install, *ENVIRONMENTS[name].requirements], check=True)
    link = repository_of(directory, name)
    link.unlink(missing_ok=True)
    if repository is not None:
        link.symlink_to(repository, target_is_directory=True)


def lacks(directory: pathlib.Path, name: str) -> str:
    """Says in a line how to make an environment that is not there; empty where it is."""
    environment = ENVIRONMENTS[name]
    repository = repository_of(directory, name) / environment.contains
    if python_of(directory, name).exists() and (not environment.repository or repository.exists()):
        return ""
    flag = f" --{name}=FOLDER" if environment.repository else ""
    checkout = f", FOLDER being a checkout of {environment.repository}" if flag else ""
    return (
        f"There is no environment of {name} in {directory}. Make it: python {SCRIPT} "
        f"--environments={directory} --only={name}{flag}{checkout}."
    )


def run(command: Sequence[str], python_path: str = "") -> str:
    """Runs a program and returns what it printed.

    Args:
        command: Its command line.
        python_path: The variable PYTHONPATH; without it the program sees its own environment alone.

    Raises:
        ProgramError: Its exit status is not 0.
    """
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if python_path:
        variables["PYTHONPATH"] = python_path
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if ended.returncode:
        said = (ended.stderr.strip() or "nothing").splitlines()[-1]
        raise ProgramError(
            f"Exit status {ended.returncode} of {' '.join(command)}; the last it said: {said}"
        )
    return ended.stdout
