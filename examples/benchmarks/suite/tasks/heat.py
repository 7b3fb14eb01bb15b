"""The heat equation u_t = 0.1 u_xx on [0, 1] x [0, 1], zero at both ends, from two sines."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from benchmarks.suite import entry as entry_lib
from benchmarks.suite import pde

_BOX = pde.Box((0, 0), (1, 1))
_CONDUCTIVITY = 0.1


def exact(points: Any) -> Any:
    """Returns u*, shape (rows, 1), at points (t, x)."""
    time, place = points[:, :1], points[:, 1:]

    def wave(number: int) -> Any:
        rate = _CONDUCTIVITY * (number * math.pi) ** 2
        return ops.exp(-rate * time) * ops.sin(number * math.pi * place)

    return wave(1) + wave(3) / 2


def equation(network: Any, points: Any) -> Any:
    """Returns u_t - 0.1 u_xx."""
    _, first, second = pde.derivatives(network, points, axes=(1,))
    return first[:, :1] - _CONDUCTIVITY * second


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 1,500 points inside, at the start and at the ends, 2-32-32-32-1 tanh."""
    points = pde.Points(_BOX, 32 if form.quick else 1500)
    places = [points.inside(), points.on_sides(0, [False]), points.on_sides(1)]
    residuals = [equation, pde.equals(exact), pde.equals(exact)]
    widths = [6, 6] if form.quick else [32, 32, 32]
    return pde.make_entry("heat", residuals, places, exact, _BOX, widths)
