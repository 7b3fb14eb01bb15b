"""Writes a Bazel repository with an empty library for each package that pyproject.toml requires.

    python .ci/pypi_stubs.py FOLDER

It stands for the hub `@pypi` of MODULE.bazel where there is no network: the packages themselves
come from the Python environment. A label of BUILD that is no requirement is missing and fails.
"""

from __future__ import annotations

import pathlib
import sys

import project

LIBRARY = """py_library(
    name = "{name}",
    visibility = ["//visibility:public"],
)
"""


def write(folder: pathlib.Path, root: pathlib.Path = project.ROOT) -> None:
    """Writes the repository into `folder`."""
    for name in project.distributions(root):
        (folder / name).mkdir(parents=True)
        (folder / name / "BUILD").write_text(LIBRARY.format(name=name))
    (folder / "WORKSPACE").write_text('workspace(name = "pypi")\n')


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
