r"""Makes the virtual environments in which the peers of `compare.py` run.

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

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

from absl import app, flags

from benchmarks.peers import environments
from helpers import command_line

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


def main(argv: Sequence[str]) -> None:
    """Makes what the flags name."""
    command_line.refuse_arguments(argv)
    known = list(environments.ENVIRONMENTS)
    if not _ONLY.value or not set(_ONLY.value) <= set(known):
        sys.exit(f"--only={','.join(_ONLY.value)} must name some of {','.join(known)}.")
    try:
        # All are looked at before the first is made, which takes a minute.
        repositories = {
            name: environments.checkout(
                name, _REPOSITORIES[name].value if name in _REPOSITORIES else None
            )
            for name in _ONLY.value
        }
    except ValueError as error:
        sys.exit(str(error))
    directory = pathlib.Path(_ENVIRONMENTS.value)
    for name, repository in repositories.items():
        packages = ", ".join(environments.ENVIRONMENTS[name].requirements)
        print(f"{name}: installing {packages}", flush=True)
        try:
            environments.make(name, directory, repository, _PYTHON.value)
        except subprocess.CalledProcessError as error:
            sys.exit(f"{name}: exit status {error.returncode} of {' '.join(error.cmd)}")
    print(f"Environments in {directory}/: {', '.join(repositories)}")


if __name__ == "__main__":
    app.run(main)
