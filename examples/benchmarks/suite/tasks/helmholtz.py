"""Helmholtz's equation: Laplacian(u) + u = q on [-1, 1] x [-1, 1], u = 0 on the edge.

Reference:
    Wang, Teng and Perdikaris, Understanding and mitigating gradient flow pathologies in
    physics-informed neural networks, SIAM J. Sci. Comput. 43, 2021.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from benchmarks.suite import entry as entry_lib
from benchmarks.suite import pde

_BOX = pde.Box((-1, -1), (1, 1))


def exact(points: Any) -> Any:
    """Returns u* = sin(pi x) sin(4 pi y), which q is made for."""
    return ops.sin(math.pi * points[:, :1]) * ops.sin(4 * math.pi * points[:, 1:])


def equation(network: Any, points: Any) -> Any:
    """Returns Laplacian(u) + u - q."""
    value, _, second = pde.derivatives(network, points)
    source = (1 - 17 * math.pi**2) * exact(points)
    return second[:, :1] + second[:, 1:] + value - source


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 1,500 points inside, as many on the edge, 2-40-40-40-1 tanh."""
    points = pde.Points(_BOX, 32 if form.quick else 1500)
    places = [points.inside(), points.on_edge()]
    widths = [6, 6] if form.quick else [40, 40, 40]
    return pde.make_entry("helmholtz", [equation, pde.equals(exact)], places, exact, _BOX, widths)
