"""Poisson's equation on the unit square: Laplacian(u) = f, u = 0 on the edge."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from benchmarks.suite import entry as entry_lib
from benchmarks.suite import pde

_BOX = pde.Box((0, 0), (1, 1))


def exact(points: Any) -> Any:
    """Returns u* = sin(pi x) sin(2 pi y), of which f is the Laplacian."""
    return ops.sin(math.pi * points[:, :1]) * ops.sin(2 * math.pi * points[:, 1:])


def equation(network: Any, points: Any) -> Any:
    """Returns Laplacian(u) - f."""
    second = pde.derivatives(network, points).second
    return second[:, :1] + second[:, 1:] + 5 * math.pi**2 * exact(points)


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 1,000 points inside, as many on the edge, 2-32-32-32-1 tanh."""
    points = pde.Points(_BOX, 32 if form.quick else 1000)
    places = [points.inside(), points.on_edge()]
    widths = [6, 6] if form.quick else [32, 32, 32]
    return pde.make_entry("poisson", [equation, pde.equals(exact)], places, exact, _BOX, widths)
