r"""Makes the virtual environments in which the peers of `peers.py` run.

    python examples/benchmarks/peers/make_environments.py \
        --spectral_density=FOLDER --hessianlearn=FOLDER

Each peer gets its own, of public packages. Two of them are no packages but repositories on GitHub:
the flags name folders with a checkout of google/spectral-density and tomoleary/hessianlearn, to
which the environment gets a link. --only makes some of them; one that is there is brought up to
date.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
from collections.abc import Sequence

import environments
from absl import app, flags

_ENVIRONMENTS = flags.DEFINE_string(
    "environments", environments.DIRECTORY, "Folder that holds the environments."
)
_ONLY = flags.DEFINE_list("only", list(environments.ENVIRONMENTS), "Which to make.")
_PYTHON = flags.DEFINE_string(
    "python", sys.executable, "Interpreter of the environments; 3.11 or newer, as matfree needs."
)
_REPOSITORIES = {
    name: flags.DEFINE_string(name, None, f"Folder with a checkout of {environment.repository}.")
    for name, environment in environments.ENVIRONMENTS.items()
    if environment.repository
}


def checkout(name: str) -> pathlib.Path | None:
    """Returns the folder of an environment's repository; None where it needs none.

    Raises:
        ValueError: None is named, or it is another folder.
    """
    environment = environments.ENVIRONMENTS[name]
    if not environment.repository:
        return None
    folder = _REPOSITORIES[name].value
    if folder is None or not (pathlib.Path(folder) / environment.contains).exists():
        raise ValueError(
            f"--{name} must name a checkout of github.com/{environment.repository}, which holds "
            f"{environment.contains}. Received: --{name}={folder}. Name one, or leave {name} out "
            "of --only."
        )
    return pathlib.Path(folder).resolve()


def make(name: str, directory: pathlib.Path, repository: pathlib.Path | None) -> None:
    """Makes one environment, or brings it up to date.

    Raises:
        CalledProcessError: `venv` or `pip` failed; they have said why.
    """
    folder = directory / name
    subprocess.run([_PYTHON.value, "-m", "venv", str(folder)], check=True)
    install = [str(environments.python_of(directory, name)), "-m", "pip", "install", "--upgrade"]
    requirements = environments.ENVIRONMENTS[name].requirements
    subprocess.run([*install, "--quiet", *requirements], check=True)
    link = environments.repository_of(directory, name)
    link.unlink(missing_ok=True)
    if repository is not None:
        link.symlink_to(repository, target_is_directory=True)


def main(argv: Sequence[str]) -> None:
    """Makes what the flags name."""
    if len(argv) > 1:
        sys.exit(f"Unknown arguments: {argv[1:]}. Every setting is a --flag.")
    known = list(environments.ENVIRONMENTS)
    if not _ONLY.value or not set(_ONLY.value) <= set(known):
        sys.exit(f"--only={','.join(_ONLY.value)} must name some of {','.join(known)}.")
    try:
        # All are looked at before the first is made, which takes a minute.
        repositories = {name: checkout(name) for name in _ONLY.value}
    except ValueError as error:
        sys.exit(str(error))
    for name, repository in repositories.items():
        print(f"{name}: installing {', '.join(environments.ENVIRONMENTS[name].requirements)}")
        try:
            make(name, pathlib.Path(_ENVIRONMENTS.value), repository)
        except subprocess.CalledProcessError as error:
            sys.exit(f"{name}: exit status {error.returncode} of {' '.join(error.cmd)}")
    print(f"Environments in {_ENVIRONMENTS.value}/: {', '.join(repositories)}")


if __name__ == "__main__":
    app.run(main)
