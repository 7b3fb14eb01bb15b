"""The convection equation u_t + 40 u_x = 0 on [0, 1] x [0, 2 pi], periodic, from sin(x).

Reference:
    Krishnapriyan et al., Characterizing possible failure modes in physics-informed neural
    networks, NeurIPS 2021: for beta above 10 the networks fail.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from benchmarks.suite import entry as entry_lib
from benchmarks.suite import pde

_BOX = pde.Box((0, 0), (1, 2 * math.pi))
_BETA = 40.0


def exact(points: Any) -> Any:
    """Returns u* = sin(x - 40 t) at points (t, x)."""
    return ops.sin(points[:, 1:] - _BETA * points[:, :1])


def equation(network: Any, points: Any) -> Any:
    """Returns u_t + 40 u_x."""
    first = pde.derivatives(network, points, axes=(1,)).first
    return first[:, :1] + _BETA * first[:, 1:]


def periodic(network: Any, points: Any) -> Any:
    """Returns u(t, 0) - u(t, 2 pi) at points (t, 0)."""
    return network(points) - network(points + ops.convert_to_tensor([0.0, _BOX.upper[1]]))


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 1,000 points inside, at the start and at the ends, 2-50-50-50-50-1 tanh."""
    points = pde.Points(_BOX, 32 if form.quick else 1000)
    places = [points.inside(), points.on_sides(0, [False]), points.on_sides(1, [False])]
    residuals = [equation, pde.equals(exact), periodic]
    widths = [6, 6] if form.quick else [50, 50, 50, 50]
    return pde.make_entry("convection", residuals, places, exact, _BOX, widths)
