"""Says where the sdist and the wheel in a folder do not hold what they should and nothing else.

    git ls-files | python .ci/distributions.py FOLDER

The sdist holds the files named on standard input, those of the checkout; the wheel holds the
package's own. Besides, each holds what hatchling writes into it.
"""

from __future__ import annotations

import pathlib
import sys
import tarfile
import zipfile
from collections.abc import Iterable

import project

PACKAGE = "keras_sfn"
OF_SDIST = {"PKG-INFO"}
OF_WHEEL = {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE"}


def problems(folder: pathlib.Path, checkout: Iterable[str], version: str) -> list[str]:
    """Returns a line for each file that is missing or should not be there.

    Args:
        folder: Where the sdist and the wheel are, and nothing else.
        checkout: The files of the checkout, as paths below its root.
        version: What both must carry in their names.
    """
    name = f"{PACKAGE}-{version}"
    archives = {f"{name}.tar.gz", f"{name}-py3-none-any.whl"}
    found = {path.name for path in folder.iterdir()}
    lines = compare("the folder", found, archives)
    if lines:
        return lines
    with tarfile.open(folder / f"{name}.tar.gz") as archive:
        held = {member.name for member in archive.getmembers() if not member.isdir()}
    files = set(checkout)
    lines += compare("the sdist", held, {f"{name}/{path}" for path in files | OF_SDIST})
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl") as archive:
        held = set(archive.namelist())
    package = {path for path in files if path.startswith(f"{PACKAGE}/")}
    lines += compare("the wheel", held, package | {f"{name}.dist-info/{path}" for path in OF_WHEEL})
    return lines


def compare(where: str, found: set[str], expected: set[str]) -> list[str]:
    """Returns a line for each difference of the two sets of names."""
    missing = [f"{where} lacks {path}" for path in sorted(expected - found)]
    return missing + [f"{where} should not hold {path}" for path in sorted(found - expected)]


def main(arguments: list[str]) -> int:
    """Prints the problems; returns the exit code."""
    lines = problems(pathlib.Path(arguments[0]), sys.stdin.read().split(), project.version())
    print("\n".join(lines) or "The sdist and the wheel hold what they should and nothing else.")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
