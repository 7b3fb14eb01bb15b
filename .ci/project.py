"""What pyproject.toml says, for the scripts beside this file."""

from __future__ import annotations

import pathlib
import re
import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Where a module is not called like the distribution it comes from.
DISTRIBUTION_OF = {"absl": "absl_py", "sklearn": "scikit_learn"}


def read(root: pathlib.Path = ROOT) -> dict[str, Any]:
    """Returns the table `project` of pyproject.toml."""
    return _tables(root)["project"]


def python_path(root: pathlib.Path = ROOT) -> list[str]:
    """Returns the folders from which a test imports (pytest's `pythonpath`)."""
    return _tables(root)["tool"]["pytest"]["ini_options"]["pythonpath"]


def _tables(root: pathlib.Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


def requirements(root: pathlib.Path = ROOT, extras: bool = True) -> list[str]:
    """Returns the requirements, without or with those of every extra, as they are written."""
    table = read(root)
    listed = list(table["dependencies"])
    if extras:
        for requirements_of_extra in table.get("optional-dependencies", {}).values():
            listed += requirements_of_extra
    return listed


def distributions(root: pathlib.Path = ROOT) -> set[str]:
    """Returns the names of all required distributions, in the form of Bazel's labels."""
    own = read(root)["name"]
    names = {re.split(r"[^\w.-]", requirement)[0] for requirement in requirements(root)}
    return {re.sub(r"[-_.]+", "_", name).lower() for name in names - {own}}


def lowest(root: pathlib.Path = ROOT) -> list[str]:
    """Returns the run-time requirements at their lower bounds, as pins for pip."""
    return [requirement.replace(">=", "==") for requirement in requirements(root, extras=False)]


def version(root: pathlib.Path = ROOT) -> str:
    """Returns the version, which stands in one place."""
    text = (root / "keras_sfn" / "version.py").read_text()
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise ValueError('keras_sfn/version.py must hold a line `__version__ = "..."`.')
    return found[1]


if __name__ == "__main__":
    # For shell scripts: python .ci/project.py lowest|version
    print({"lowest": lambda: " ".join(lowest()), "version": version}[sys.argv[1]]())
