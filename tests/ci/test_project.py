"""What scripts read from pyproject.toml, and what the project's files must agree on."""

import re

import pytest

import keras_sfn
import project
import pypi_stubs
import release


def test_lowest_pins_every_lower_bound(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "a-b"\ndependencies = ["tensorflow>=2.18", "absl-py>=2.0"]\n'
        'optional-dependencies = { more = ["a-b[rest]", "x.Y_z<3; python_version<\'3\'"] }\n'
    )
    assert project.lowest(tmp_path) == ["tensorflow==2.18", "absl-py==2.0"]
    assert project.distributions(tmp_path) == {"tensorflow", "absl_py", "x_y_z"}
    pypi_stubs.write(tmp_path / "pypi", tmp_path)
    builds = {path.parent.name for path in (tmp_path / "pypi").glob("*/BUILD")}
    assert builds == {"tensorflow", "absl_py", "x_y_z"}


@pytest.mark.checkout
def test_every_run_time_requirement_has_a_lower_bound_and_no_other():
    for requirement in project.requirements(extras=False):
        assert re.fullmatch(r"[\w.-]+>=[\d.]+", requirement)


@pytest.mark.checkout
def test_the_version_stands_in_one_place_and_the_changelog_begins_with_it():
    assert project.version() == keras_sfn.__version__
    assert release.section(project.ROOT)[0] == keras_sfn.__version__
    assert project.read()["dynamic"] == ["version"]
    module = (project.ROOT / "MODULE.bazel").read_text()
    assert not re.search(r"module\([^)]*\bversion\b", module)


@pytest.mark.checkout
def test_the_lock_file_of_bazel_pins_every_requirement_of_the_tests():
    lock = (project.ROOT / ".ci" / "requirements_lock.txt").read_text()
    pins = dict(re.findall(r"^([\w.-]+)==([\d.]+)", lock, re.MULTILINE))
    table = project.read()
    wanted = table["dependencies"] + [
        requirement
        for extra in ("examples", "test")
        for requirement in table["optional-dependencies"][extra]
        if not requirement.startswith(table["name"]) and "python_version <" not in requirement
    ]
    for requirement in wanted:
        name, lowest = requirement.split(">=")
        numbers = [
            [int(n) for n in version.split(".")]
            for version in (pins[name.lower().replace("_", "-")], lowest)
        ]
        assert numbers[0] >= numbers[1], requirement
