"""Tests for examples/benchmarks/suite/pictures.py."""

from benchmarks.suite import pictures
from tests.examples.benchmarks.suite import invented


def test_pictures_are_written(tmp_path):
    pictures.page(tmp_path / "suite.png", invented.lines(), "versions")
    pictures.curves(tmp_path / "heat.png", invented.groups(), "heat", "loss", "versions")
    for name in ("suite.png", "heat.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
