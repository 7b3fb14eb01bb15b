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
"""
TREE = {
    "pyproject.toml": PYPROJECT,
    "README.md": "",
    "keras_sfn/__init__.py": "from keras_sfn.optimizers import Newton\n",
    "keras_sfn/optimizers.py": "from keras_sfn import vectors as v, step\nimport absl.logging\n",
    "keras_sfn/step.py": "def f():\n    import keras_sfn.vectors, tensorflow.linalg\n",
    "keras_sfn/vectors.py": "import math\n",
    "examples/sums.py": "import keras_sfn\nimport tables\nif __name__ == '__main__': pass\n",
    "examples/peers.py": "run('sums.py')\nimport jax\nif __name__ == '__main__': pass\n",
    "examples/tables.py": "",
    ".ci/tool.py": "import project\n",
    ".ci/project.py": "",
    "tests/conftest.py": "import pytest\n",
    "tests/test_step.py": "from keras_sfn import step\nimport tool, pytest\n@pytest.mark.slow\n",
    "tests/test_sums.py": "run('sums.py'); open('README.md')\n@pytest.mark.checkout\n",
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
        path.parent.mkdir(exist_ok=True)
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
        ("keras_sfn", "py_library", [":optimizers"]),
        ("optimizers", "py_library", [":step", ":vectors", "@pypi//absl_py"]),
        ("step", "py_library", [":vectors", "@pypi//tensorflow"]),
        ("vectors", "py_library", []),
        ("sums", "py_binary", [":keras_sfn", ":tables"]),
        ("peers", "py_binary", [":sums"]),
        ("tables", "py_library", []),
        ("tool", "py_library", [":project"]),
        ("conftest", "py_library", ["@pypi//pytest"]),
        ("test_step", "py_test", [":conftest", ":keras_sfn", ":step", ":tool", "@pypi//pytest"]),
        ("test_sums", "py_test", [":conftest", ":sums", "@pypi//pytest"]),
    ],
)
def test_dependencies_are_the_imports(tree, name, kind, deps):
    rule = read(build_file.render(tree))[name]
    assert (rule[0], rule[1].get("deps", [])) == (kind, deps)


def test_a_test_has_what_it_opens_and_its_size_and_tag(tree):
    rules = read(build_file.render(tree))
    assert rules["test_sums"][1]["data"] == ["README.md"]
    assert rules["test_sums"][1]["size"] == "medium"
    assert rules["test_sums"][1]["tags"] == ["checkout"]
    assert "data" not in rules["test_step"][1]
    assert "tags" not in rules["test_step"][1]
    assert rules["test_step"][1]["size"] == "large"
    assert rules["test_step"][1]["args"] == ["$(location tests/test_step.py)"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("keras_sfn/vectors.py", "import tensorflow\n"),
        ("keras_sfn/step.py", ""),
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
        ("keras_sfn/step.py", "import scipy.linalg", "`scipy` in keras_sfn/step.py. Add its pack"),
        ("keras_sfn/step.py", "import jax", "`jax` in keras_sfn/step.py. Add its package"),
        ("keras_sfn/step.py", "from . import vectors", "a relative import in line 1"),
        ("examples/step.py", "", "keras_sfn/step.py and examples/step.py. Rename one"),
    ],
)
def test_what_build_cannot_express_is_refused(tree, path, text, message):
    (tree / path).write_text(text)
    with pytest.raises(ValueError, match=message):
        build_file.render(tree)


def test_files_are_found_whatever_the_folder_is_called():
    assert build_file.target_name(pathlib.PurePosixPath("keras_sfn/__init__.py")) == "keras_sfn"
    assert build_file.target_name(pathlib.PurePosixPath("examples/more/plots.py")) == "plots"
