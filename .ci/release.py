"""Makes a release of the commit that is checked out: checks, builds, tests, tags.

    python .ci/release.py [--upload]

The version stands in keras_sfn/version.py. CHANGELOG.md must begin with its section, with a date in
place of "unreleased". Nothing leaves this machine without --upload, which hands the sdist and the
wheel to twine (credentials are twine's own affair) and pushes the tag to `origin`.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import distributions
import project


class ReleaseError(Exception):
    """What must be put right before a release; the message says how."""


def git(root: pathlib.Path, *arguments: str) -> str:
    """Returns what a git command prints."""
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def section(root: pathlib.Path) -> tuple[str, str]:
    """Returns the version and the date (or "unreleased") of CHANGELOG.md's first section."""
    text = (root / "CHANGELOG.md").read_text()
    heading = re.search(r"^## (.*)$", text, re.MULTILINE)
    parts = heading and re.fullmatch(
        r"(\d+\.\d+\.\d+) \((unreleased|\d{4}-\d\d-\d\d)\)", heading[1]
    )
    if not parts:
        raise ReleaseError(
            "The first section of CHANGELOG.md must be headed `## VERSION (YYYY-MM-DD)`, or "
            f"`(unreleased)`. Received: {heading[0] if heading else 'no section'}."
        )
    return parts[1], parts[2]


def check(root: pathlib.Path) -> str:
    """Returns the version to release.

    Raises:
        ReleaseError: The tree is not clean, the changelog speaks of another version or has no date,
            or the version's tag exists.
    """
    changes = git(root, "status", "--porcelain")
    if changes:
        raise ReleaseError(f"The tree must be clean. Commit or remove:\n{changes.rstrip()}")
    version = project.version(root)
    logged, date = section(root)
    if logged != version:
        raise ReleaseError(
            "keras_sfn/version.py and the first section of CHANGELOG.md must agree. Received: "
            f"{version} and {logged}."
        )
    if date == "unreleased":
        raise ReleaseError(
            f"The section {version} of CHANGELOG.md must have the date of the release. Received: "
            "unreleased. Commit the date."
        )
    if git(root, "tag", "--list", f"v{version}"):
        raise ReleaseError(
            f"The tag v{version} exists. A new release needs a new version in "
            "keras_sfn/version.py and CHANGELOG.md."
        )
    return version


def run(*command: str | pathlib.Path, cwd: pathlib.Path) -> None:
    """Runs a command, shown, and stops where it fails."""
    print("+", *command, flush=True)
    environment = os.environ | {"PYTHON": sys.executable}
    if subprocess.run([str(part) for part in command], cwd=cwd, env=environment).returncode:
        raise ReleaseError(f"This failed: {' '.join(map(str, command))}")


def build(root: pathlib.Path, version: str) -> list[pathlib.Path]:
    """Builds and tests the sdist and the wheel of the commit; returns them, in dist/VERSION."""
    with tempfile.TemporaryDirectory() as folder:
        # From the commit alone: what git ignores in the checkout cannot get in.
        source, built = pathlib.Path(folder) / "source", pathlib.Path(folder) / "built"
        run("git", "clone", "--quiet", root, source, cwd=root)
        run(sys.executable, "-m", "build", "--outdir", built, source, cwd=source)
        files = sorted(built.iterdir())
        problems = distributions.problems(built, git(root, "ls-files").split(), version)
        if problems:
            raise ReleaseError("\n".join(problems))
        run(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=source)
        run(".ci/wheel_test", *(file for file in files if file.suffix == ".whl"), cwd=source)
        target = root / "dist" / version
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(built, target)
    return sorted(target.iterdir())


def main(arguments: list[str], root: pathlib.Path = project.ROOT) -> int:
    """Makes the release; returns the exit code."""
    parser = argparse.ArgumentParser(description="Checks, builds, tests and tags a release.")
    parser.add_argument(
        "--upload", action="store_true", help="also upload by twine and push the tag to origin"
    )
    upload = parser.parse_args(arguments).upload
    try:
        version = check(root)
        files = build(root, version)
        run("git", "tag", "-a", f"v{version}", "-m", f"keras_sfn {version}", cwd=root)
        publish: list[tuple[str | pathlib.Path, ...]] = [
            (sys.executable, "-m", "twine", "upload", *files),
            ("git", "push", "origin", f"v{version}"),
        ]
        if not upload:
            print(f"v{version} is tagged; nothing was uploaded. To publish it:")
        for command in publish:
            if upload:
                run(*command, cwd=root)
            else:
                print(" ", *command)
    except ReleaseError as error:
        print(f"No release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
