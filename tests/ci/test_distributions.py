"""The check of the sdist and the wheel finds what is missing and what should not be there."""

import io
import tarfile
import zipfile

import pytest

import distributions

CHECKOUT = ["README.md", "keras_sfn/__init__.py", "keras_sfn/py.typed", "tests/test_it.py"]
WHEEL = [*CHECKOUT[1:3], *(f"keras_sfn-1.2.3.dist-info/{n}" for n in distributions.OF_WHEEL)]
SDIST = [*CHECKOUT, *distributions.OF_SDIST]


def write(folder, sdist=SDIST, wheel=WHEEL):
    with tarfile.open(folder / "keras_sfn-1.2.3.tar.gz", "w:gz") as archive:
        for name in sdist:
            archive.addfile(tarfile.TarInfo(f"keras_sfn-1.2.3/{name}"), io.BytesIO())
    with zipfile.ZipFile(folder / "keras_sfn-1.2.3-py3-none-any.whl", "w") as archive:
        for name in wheel:
            archive.writestr(name, "")


def test_nothing_to_say_of_what_is_right(tmp_path):
    write(tmp_path)
    assert distributions.problems(tmp_path, CHECKOUT, "1.2.3") == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"sdist": SDIST[1:]}, "the sdist lacks keras_sfn-1.2.3/README.md"),
        ({"sdist": [*SDIST, ".env"]}, "the sdist should not hold keras_sfn-1.2.3/.env"),
        ({"wheel": [n for n in WHEEL if "typed" not in n]}, "the wheel lacks keras_sfn/py.typed"),
        ({"wheel": [*WHEEL, "tests/test_it.py"]}, "the wheel should not hold tests/test_it.py"),
    ],
)
def test_a_missing_and_a_stray_file_are_named(tmp_path, change, line):
    write(tmp_path, **change)
    assert distributions.problems(tmp_path, CHECKOUT, "1.2.3") == [line]


def test_another_version_and_a_stray_archive_are_named(tmp_path):
    write(tmp_path)
    lines = distributions.problems(tmp_path, CHECKOUT, "1.2.4")
    assert "the folder lacks keras_sfn-1.2.4.tar.gz" in lines
    assert "the folder should not hold keras_sfn-1.2.3.tar.gz" in lines
