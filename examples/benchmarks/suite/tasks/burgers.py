"""Burgers' equation u_t + u u_x = 0.01/pi u_xx on [0, 1] x [-1, 1], from -sin(pi x).

Reference:
    Basdevant et al., Spectral and finite difference solutions of the Burgers equation, Computers
    and Fluids 14, 1986: the solution as a quotient of two integrals, after Cole and Hopf.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from benchmarks.suite import entry as entry_lib
from benchmarks.suite import pde

_BOX = pde.Box((0, -1), (1, 1))
_VISCOSITY = 0.01 / math.pi
# Of the integrals; with half of them the solution is the same to 1e-8.
_NODES = 200


def exact(points: np.ndarray) -> np.ndarray:
    """Returns u*, shape (n, 1), at points (t, x), float64."""
    nodes, weights = np.polynomial.hermite.hermgauss(_NODES)
    # Where heat at x at time t comes from.
    origin = points[:, 1:] - np.sqrt(4 * _VISCOSITY * points[:, :1]) * nodes
    exponent = -np.cos(math.pi * origin) / (2 * math.pi * _VISCOSITY)
    density = weights * np.exp(exponent - exponent.max(axis=1, keepdims=True))
    mean = (density * np.sin(math.pi * origin)).sum(axis=1) / density.sum(axis=1)
    return -mean[:, None]


def start(points: Any) -> Any:
    """Returns -sin(pi x), which is zero at both ends."""
    return -ops.sin(math.pi * points[:, 1:])


def equation(network: Any, points: Any) -> Any:
    """Returns u_t + u u_x - 0.01/pi u_xx."""
    value, first, second = pde.derivatives(network, points, axes=(1,))
    return first[:, :1] + value * first[:, 1:] - _VISCOSITY * second


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 2,000 points inside, at the start and at the ends, 2-20-20-20-20-1 tanh."""
    points = pde.Points(_BOX, 32 if form.quick else 2000)
    places = [points.inside(), points.on_sides(0, [False]), points.on_sides(1)]
    residuals = [equation, pde.equals(start), pde.equals(start)]
    widths = [6, 6] if form.quick else [20, 20, 20, 20]
    return pde.make_entry("burgers", residuals, places, exact, _BOX, widths)
