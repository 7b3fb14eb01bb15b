"""BUILD agrees with the sources, and the script that writes it sees what it must."""

import ast
import pathlib

import pytest

import build_file
import project

ROOT = project.ROOT
PYPROJECT = """
[project]
name = "keras-sfn"
dependencies = ["tensorflow>=2.18", "absl-py"]
optional-dependencies = { test = ["keras-sfn[examples]", "pytest>=8"] }
[tool.pytest.ini_options]
pythonpath = [".", ".ci", "examples"]
"""
TREE = {
    "pyproject.toml": PYPROJECT,
    "README.md": "",
    "keras_sfn/__init__.py": "from keras_sfn.newton.step import Newton\n",
    "keras_sfn/newton/__init__.py": "",
    "keras_sfn/newton/step.py": "from keras_sfn.krylov import vectors as v\nimport absl.logging\n",
    "keras_sfn/newton/damping.py": "from keras_sfn.newton.step import Newton\n",
    "keras_sfn/krylov/__init__.py": "",
    "keras_sfn/krylov/vectors.py": "def f():\n    import keras_sfn.sizes, tensorflow.linalg\n",
    "keras_sfn/sizes.py": "import math\n",
    "examples/sums.py": "import keras_sfn\nfrom helpers import tables\nif __name__ == 'x': pass\n",
    "examples/cost/sums.py": "run('cost/more.py')\nimport jax\nif __name__ == '__main__': pass\n",
    "examples/cost/more.py": "from helpers.tables import row\nif __name__ == '__main__': pass\n",
    "examples/helpers/__init__.py": "",
    "examples/helpers/tables.py": "import helpers.cells\n",
    "examples/helpers/cells.py": "",
    ".ci/tool.py": "import project\n",
    ".ci/project.py": "",
    "tests/__init__.py": "",
    "tests/conftest.py": "import pytest\n",
    "tests/scripts.py": "",
    "tests/newton/test_step.py": "from keras_sfn.newton import step\n@pytest.mark.slow\n",
    "tests/newton/conftest.py": "from keras_sfn import Newton, sizes\n",
    "tests/test_sums.py": "run('examples/sums.py'); open('README.md')\n@pytest.mark.checkout\n",
    "tests/test_tool.py": "import tool\nfrom tests import scripts\nfrom helpers import cells\n",
}


def read(text):
    """Returns every rule of a BUILD file: name -> (kind, attributes)."""
    rules = {}
    for node in ast.parse(text).body:
        call = node.value
        if isinstance(call, ast.Call) and any(k.arg == "name" for k in call.keywords):
            attributes = {
                k.arg: ast.literal_eval(k.value)
                for k in call.keywords
                if not isinstance(k.value, ast.Call)
            }
            rules[attributes.pop("name")] = (call.func.id, attributes)
    return rules


@pytest.fixture
def tree(tmp_path):
    for name, text in TREE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}def test(): ...\n" if "mark" in text else text)
    return tmp_path


@pytest.mark.checkout
def test_build_is_what_the_imports_say(capsys):
    assert build_file.main(["--check"], ROOT) == 0, capsys.readouterr().out


@pytest.mark.checkout
def test_every_source_stands_in_build():
    listed = {
        source
        for _, attributes in read((ROOT / "BUILD").read_text()).values()
        for source in attributes.get("srcs", [])
    }
    assert listed == {
        path.relative_to(ROOT).as_posix()
        for pattern in ("keras_sfn/**/*.py", "examples/**/*.py", "tests/**/*.py", ".ci/*.py")
        for path in ROOT.glob(pattern)
    }


@pytest.mark.parametrize(
    ("name", "kind", "deps"),
    [
        ("keras_sfn", "py_library", [":keras_sfn.newton", ":keras_sfn.newton.step"]),
        ("keras_sfn.newton", "py_library", []),
        (
            "keras_sfn.newton.step",
            "py_library",
            [":keras_sfn.krylov", ":keras_sfn.krylov.vectors", "@pypi//absl_py"],
        ),
        (
            "keras_sfn.newton.damping",
            "py_library",
            [":keras_sfn.newton", ":keras_sfn.newton.step"],
        ),
        ("keras_sfn.krylov.vectors", "py_library", [":keras_sfn.sizes", "@pypi//tensorflow"]),
        ("keras_sfn.sizes", "py_library", []),
        (
            "examples.sums",
            "py_binary",
            [":examples.helpers", ":examples.helpers.tables", ":keras_sfn"],
        ),
        ("examples.cost.sums", "py_binary", [":examples.cost.more"]),
        ("examples.cost.more", "py_binary", [":examples.helpers", ":examples.helpers.tables"]),
        (
            "examples.helpers.tables",
            "py_library",
            [":examples.helpers", ":examples.helpers.cells"],
        ),
        ("ci.tool", "py_library", [":ci.project"]),
        ("tests.conftest", "py_library", ["@pypi//pytest"]),
        ("tests.newton.conftest", "py_library", [":keras_sfn", ":keras_sfn.sizes"]),
        (
            "tests.newton.test_step",
            "py_test",
            [
                *(":keras_sfn", ":keras_sfn.newton", ":keras_sfn.newton.step", ":tests"),
                *(":tests.conftest", ":tests.newton.conftest", "@pypi//pytest"),
            ],
        ),
        (
            "tests.test_sums",
            "py_test",
            [":examples.sums", ":tests", ":tests.conftest", "@pypi//pytest"],
        ),
        (
            "tests.test_tool",
            "py_test",
            [
                *(":ci.tool", ":examples.helpers", ":examples.helpers.cells", ":tests"),
                *(":tests.conftest", ":tests.scripts", "@pypi//pytest"),
            ],
        ),
    ],
)
def test_dependencies_are_the_imports(tree, name, kind, deps):
    rule = read(build_file.render(tree))[name]
    assert (rule[0], rule[1].get("deps", [])) == (kind, deps)


def test_a_test_has_what_it_opens_and_its_size_and_tag(tree):
    rules = read(build_file.render(tree))
    assert rules["tests.test_sums"][1]["data"] == ["README.md"]
    assert rules["tests.test_sums"][1]["size"] == "medium"
    assert rules["tests.test_sums"][1]["tags"] == ["checkout"]
    assert "data" not in rules["tests.newton.test_step"][1]
    assert "tags" not in rules["tests.newton.test_step"][1]
    assert rules["tests.newton.test_step"][1]["size"] == "large"
    assert rules["tests.newton.test_step"][1]["args"] == ["$(location tests/newton/test_step.py)"]


def test_a_library_says_from_which_folder_it_is_imported_and_a_binary_what_runs(tree):
    rules = read(build_file.render(tree))
    folders = {
        "keras_sfn.newton.step": ".",
        "examples.helpers.cells": "examples",
        "ci.tool": ".ci",
        "tests.scripts": ".",
    }
    for name, folder in folders.items():
        assert rules[name][1]["imports"] == [folder]
    assert rules["examples.cost.sums"][1]["main"] == "examples/cost/sums.py"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("keras_sfn/sizes.py", "import tensorflow\n"),
        ("keras_sfn/newton/step.py", ""),
        ("keras_sfn/damping.py", ""),
        ("examples/more/plots.py", ""),
        ("tests/test_damping.py", ""),
    ],
)
def test_the_check_finds_a_changed_import_and_a_new_file(tree, capsys, path, text):
    assert build_file.main([], tree) == 0
    assert build_file.main(["--check"], tree) == 0
    (tree / path).parent.mkdir(exist_ok=True)
    (tree / path).write_text(text)
    assert build_file.main(["--check"], tree) == 1
    assert "Run python .ci/build_file.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (
            "keras_sfn/sizes.py",
            "import scipy.linalg",
            "`scipy` in keras_sfn/sizes.py. Add",
        ),
        ("keras_sfn/sizes.py", "import jax", "`jax` in keras_sfn/sizes.py. Add its package"),
        ("keras_sfn/sizes.py", "import helpers.cells", "`helpers` in keras_sfn/sizes.py"),
        ("keras_sfn/sizes.py", "from . import vectors", "a relative import in line 1"),
        ("examples/cost.py", "import cells", "`cells` in examples/cost.py"),
        ("keras_sfn/newton.py", "", "newton/__init__.py and keras_sfn/newton.py. Rename"),
    ],
)
def test_what_build_cannot_express_is_refused(tree, path, text, message):
    (tree / path).write_text(text)
    with pytest.raises(ValueError, match=message):
        build_file.render(tree)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("keras_sfn/__init__.py", "keras_sfn"),
        ("keras_sfn/newton/__init__.py", "keras_sfn.newton"),
        ("examples/cost/sums.py", "examples.cost.sums"),
        (".ci/tool.py", "ci.tool"),
    ],
)
def test_a_target_is_called_like_its_module_with_all_folders(path, name):
    assert build_file.target_name(pathlib.PurePosixPath(path)) == name
