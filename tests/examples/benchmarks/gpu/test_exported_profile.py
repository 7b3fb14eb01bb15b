"""Kernels of a profile, as JAX's `ProfileData` has them."""

import types

import pytest

from benchmarks.gpu import exported_profile, exported_report


def named(name, **parts):
    return types.SimpleNamespace(name=name, **parts)


def line(name, *events):
    return named(name, events=[named(kernel, duration_ns=ns) for kernel, ns in events])


PLANES = [
    named("/host:CPU", lines=[line("Stream #1", ("on the host", 9e9))]),
    named(
        "/device:GPU:0",
        lines=[
            line("XLA Modules", ("all of it", 8e9)),
            line("Stream #14(Compute)", ("short", 1000.0), ("long", 9000.0), ("short", 3000.0)),
            line("Stream #15(MemcpyD2H)", ("MemcpyD2H", 6000.0)),
        ],
    ),
]


def test_kernels_are_those_of_the_streams_of_gpus():
    found = exported_profile.kernels("step", PLANES, calls=2)
    assert found == [
        exported_profile.Kernel("step", "long", 0.5, 4.5),
        exported_profile.Kernel("step", "MemcpyD2H", 0.5, 3.0),
        exported_profile.Kernel("step", "short", 1.0, 2.0),
    ]
    number, busy_seconds = exported_profile.total(found)
    assert (number, busy_seconds) == (2.0, pytest.approx(9.5e-6))
    assert isinstance(exported_profile.total(found), exported_report.Kernels)


def test_without_a_gpu_there_are_none():
    found = exported_profile.kernels("step", PLANES[:1], calls=1)
    assert found == []
    assert exported_profile.total(found) is None
