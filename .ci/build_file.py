"""Writes BUILD from the imports of the sources, or says where it differs from them.

    python .ci/build_file.py            writes BUILD
    python .ci/build_file.py --check    writes nothing; shows the difference and fails

One `py_library` a module, one `py_binary` an example that is run, one `py_test` a test file, each
called like the module with all its folders. The dependencies are what a file imports, with the
packages in which that lies, and besides, of a test, the scripts and documents, and of an example,
the scripts whose paths, or ends of them, are among its strings (they are opened or run).
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator

import project

PACKAGE = "keras_sfn"
PACKAGE_INIT = pathlib.PurePosixPath(PACKAGE, "__init__.py")
SOURCES = {
    PACKAGE: f"{PACKAGE}/**/*.py",
    "examples": "examples/**/*.py",
    ".ci": ".ci/*.py",
    "tests": "tests/**/*.py",
}
# What a test may run.
SCRIPTS = ("examples", ".ci")
# What a test may open. Code is not listed: it is a dependency.
DOCUMENTS = ("*.md", "*.toml", ".ci/*.txt", "MODULE.bazel", "docs/*.md", "docs/*.png")
# Under pytest's main the file under test is an argument; it is no module of its own.
TEST_MAIN = pathlib.PurePosixPath("tests/run_pytest.py")
# Python 3.10 does not know `tomllib`; what is written must be the same with every version.
STANDARD = sys.stdlib_module_names | {"tomllib"}
# Packages of programs that run in environments of their own; Bazel has no such thing.
FOREIGN = {
    "adapt",
    "aeon",
    "bayesflow",
    "curvlinops",
    "deepxde",
    "hgq",
    "jax",
    "keras_hub",
    "keras_tuner",
    "kgcnn",
    "matfree",
    "mlflow",
    "onnxruntime",
    "torch",
}
# What files open besides, which neither imports nor strings tell.
READS = {
    pathlib.PurePosixPath(".ci/build_file.py"): ["BUILD", ":sources"],
    pathlib.PurePosixPath(".ci/project.py"): ["pyproject.toml"],
    pathlib.PurePosixPath(".ci/readme.py"): ["README.md"],
    pathlib.PurePosixPath(".ci/release.py"): ["CHANGELOG.md"],
    pathlib.PurePosixPath("tests/docs/test_docs.py"): [":sources"],
    pathlib.PurePosixPath("tests/examples/test_layout.py"): [":sources"],
}

_PATTERNS = "".join(f'        "{pattern}",\n' for pattern in sorted(SOURCES.values()))
HEADER = f'''"""keras_sfn: one library a module, one test a test file, one binary an example.

Written by `python .ci/build_file.py` from the imports, so this file documents the architecture. A
module's library holds that module alone; `:keras_sfn` is the whole package.
"""

load("@rules_python//python:defs.bzl", "py_binary", "py_library", "py_test")

package(default_visibility = ["//visibility:public"])

licenses(["notice"])

exports_files(["LICENSE"])

filegroup(
    name = "sources",
    srcs = glob([
{_PATTERNS}    ]),
)
'''


@dataclasses.dataclass(frozen=True)
class Target:
    """One rule of BUILD: its kind, and its attributes as Starlark expressions in their order."""

    kind: str
    name: str
    attributes: dict[str, str | list[str]]

    def render(self) -> str:
        """Returns the rule as buildifier writes it."""
        lines = [f"{self.kind}(", f'    name = "{self.name}",']
        for key, value in self.attributes.items():
            if isinstance(value, str):
                lines.append(f"    {key} = {value},")
            elif len(value) == 1:
                lines.append(f'    {key} = ["{value[0]}"],')
            elif value:
                lines += [f"    {key} = [", *(f'        "{item}",' for item in value), "    ],"]
        return "\n".join([*lines, ")\n"])


class Project:
    """The sources below a root, and what they depend on."""

    def __init__(self, root: pathlib.Path):
        """Reads the list of files; `root` holds pyproject.toml."""
        self.root = root
        self.files = sorted(
            pathlib.PurePosixPath(path.relative_to(root).as_posix())
            for pattern in SOURCES.values()
            for path in root.glob(pattern)
        )
        self.documents = sorted(
            pathlib.PurePosixPath(path.relative_to(root).as_posix())
            for pattern in DOCUMENTS
            for path in root.glob(pattern)
        )
        self.distributions = project.distributions(root)
        # Folder from which files import -> name of a module -> its file.
        self.modules = {
            folder: {
                module_name(path.relative_to(folder)): path
                for path in self.files
                if path.is_relative_to(folder)
            }
            for folder in map(pathlib.PurePosixPath, project.python_path(root))
        }

    def targets(self) -> Iterator[Target]:
        """Yields the rules in the order of BUILD."""
        names: dict[str, pathlib.PurePosixPath] = {}
        for directory in SOURCES:
            for path in self.files:
                if path.parts[0] != directory or path == TEST_MAIN:
                    continue
                name = target_name(path)
                if name in names:
                    raise ValueError(
                        f"Two files of one module name make two targets `{name}` of BUILD. "
                        f"Received: {names[name]} and {path}. Rename one."
                    )
                names[name] = path
                yield self._target(path, name)

    def _target(self, path: pathlib.PurePosixPath, name: str) -> Target:
        tree = ast.parse((self.root / path).read_text(), str(path))
        deps = self._imports(path, tree)
        if is_test(path):
            return self._test(path, name, tree, deps)
        if path.parts[0] == "examples" and runs(tree):
            deps = sort_labels({*deps, *self._scripts(path, tree)})
            return Target(
                "py_binary", name, {"srcs": [str(path)], "main": f'"{path}"', "deps": deps}
            )
        attributes: dict[str, str | list[str]] = {"srcs": [str(path)]}
        if path.parts[0] == "tests":
            # pyproject.toml configures pytest: markers, warnings that are errors.
            attributes = {"testonly": "True", **attributes, "data": ["pyproject.toml"]}
        elif path == PACKAGE_INIT:
            attributes["data"] = [f"{PACKAGE}/py.typed"]
        elif path in READS:
            attributes["data"] = READS[path]
        # With it a module is found where the project is a folder of a larger workspace, too.
        folders = [folder for folder in self.modules if path.is_relative_to(folder)]
        attributes["imports"] = [str(max(folders, key=lambda folder: len(folder.parts)))]
        return Target("py_library", name, attributes | {"deps": deps})

    def _test(
        self, path: pathlib.PurePosixPath, name: str, tree: ast.Module, deps: list[str]
    ) -> Target:
        opened = [document for document in self.documents if ends(document) & strings(tree)]
        # Links of a document are followed by the tests that read it.
        linked = [target for document in opened for target in self._links(document)]
        documents = sorted({str(document) for document in (*opened, *linked)})
        # pytest itself runs the file, and reads each conftest.py on the way to it.
        shared = {self._label("pytest", path), *self._above(path, "conftest.py")}
        shared |= self._above(path, "__init__.py")
        found = marks(tree)
        return Target(
            "py_test",
            name,
            {
                "size": '"large"' if "slow" in found else '"medium"',
                "srcs": sorted([str(TEST_MAIN), str(path)]),
                "args": [f"$(location {path})"],
                "data": documents + READS.get(path, []),
                "main": f'"{TEST_MAIN}"',
                # What CI runs under Bazel.
                "tags": ["checkout"] if "checkout" in found else [],
                "deps": sort_labels({*deps, *self._scripts(path, tree), *shared}),
            },
        )

    def _scripts(self, path: pathlib.PurePosixPath, tree: ast.Module) -> set[str]:
        """Returns the labels of the scripts, but for the file itself, that its strings name."""
        named = strings(tree)
        return {
            ":" + target_name(other)
            for other in self.files
            if other.parts[0] in SCRIPTS
            and other.name != "__init__.py"
            and other != path
            and ends(other) & named
        }

    def _links(self, document: pathlib.PurePosixPath) -> Iterator[pathlib.PurePosixPath]:
        """Yields the documents that a document links to, if it is text."""
        if document.suffix != ".md":
            return
        text = (self.root / document).read_text()
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            target = pathlib.PurePosixPath(os.path.normpath(document.parent / link))
            if target in self.documents:
                yield target

    def _imports(self, path: pathlib.PurePosixPath, tree: ast.Module) -> list[str]:
        modules: dict[str, pathlib.PurePosixPath] = {}
        for folder, found_there in self.modules.items():
            # A test imports from all.
            if path.parts[0] == "tests" or path.is_relative_to(folder):
                modules |= found_there
        labels = set()
        for module, names in imported(tree):
            # A name that is no module of a package comes from the package's `__init__`.
            wanted = [modules.get(f"{module}.{name}", modules.get(module)) for name in names]
            found = [other for other in wanted or [modules.get(module)] if other]
            top = module.split(".")[0]
            if found:
                for other in found:
                    labels |= {":" + target_name(other), *self._above(other, "__init__.py")}
            elif top not in STANDARD and not (top in FOREIGN and path.parts[0] == "examples"):
                labels.add(self._label(top, path))
        # Importing a module runs the package's `__init__` first; inside the package that is no
        # dependency but a cycle.
        inside = {":" + PACKAGE} if path.parts[0] == PACKAGE else set()
        return sort_labels(labels - {":" + target_name(path)} - inside)

    def _above(self, path: pathlib.PurePosixPath, name: str) -> set[str]:
        """Returns the labels of the files of a name in the folders in which a file lies."""
        places = [folder / name for folder in path.parents]
        return {":" + target_name(place) for place in places if place in self.files}

    def _label(self, top: str, path: pathlib.PurePosixPath) -> str:
        distribution = project.DISTRIBUTION_OF.get(top, top)
        if distribution not in self.distributions:
            raise ValueError(
                "Every import must come from the standard library, the project or a dependency of "
                f"pyproject.toml. Received: `{top}` in {path}. Add its package to pyproject.toml, "
                "and where the two names differ to DISTRIBUTION_OF in .ci/project.py."
            )
        return f"@pypi//{distribution}"


def module_name(path: pathlib.PurePosixPath) -> str:
    """Returns the dotted name of a file's module; a package's is that of its `__init__`."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if path.name == "__init__.py" else parts)


def target_name(path: pathlib.PurePosixPath) -> str:
    """Returns a file's target: its module's name from the root."""
    return module_name(path).removeprefix(".")


def ends(path: pathlib.PurePosixPath) -> set[str]:
    """Returns the path, and what is left of it without its first folders."""
    return {"/".join(path.parts[start:]) for start in range(len(path.parts))}


def is_test(path: pathlib.PurePosixPath) -> bool:
    """Tells whether pytest collects the file."""
    return path.parts[0] == "tests" and path.name.startswith("test_")


def runs(tree: ast.Module) -> bool:
    """Tells whether the file does something when run: it asks for `__name__`."""
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(tree))


def strings(tree: ast.Module) -> set[str]:
    """Returns the strings of the file."""
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def marks(tree: ast.Module) -> set[str]:
    """Returns the names of the pytest markers that the file uses."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "mark"
    }


def imported(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """Yields every import, wherever it stands, as a module and the names taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise ValueError(
                    "Imports must name their module in full. Received: a relative import in line "
                    f"{node.lineno}. Write `from {PACKAGE} import ...`."
                )
            yield node.module, [alias.name for alias in node.names]


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Returns labels in buildifier's order: this package's first, then those of repositories."""
    return sorted(labels, key=lambda label: (label.startswith("@"), label.split(".")))


def render(root: pathlib.Path) -> str:
    """Returns the text of BUILD for the sources below `root`."""
    return "\n".join([HEADER, *(target.render() for target in Project(root).targets())])


def main(arguments: list[str], root: pathlib.Path = project.ROOT) -> int:
    """Writes or checks BUILD; returns the exit code."""
    parser = argparse.ArgumentParser(description="Writes BUILD from the imports of the sources.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where it differs")
    check = parser.parse_args(arguments).check
    build, expected = root / "BUILD", render(root)
    found = build.read_text() if build.exists() else ""
    if not check:
        build.write_text(expected)
        return 0
    difference = difflib.unified_diff(
        found.splitlines(True), expected.splitlines(True), "BUILD", "from the imports"
    )
    sys.stdout.writelines(difference)
    if found != expected:
        print("BUILD differs from the sources' imports. Run python .ci/build_file.py")
    return int(found != expected)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
