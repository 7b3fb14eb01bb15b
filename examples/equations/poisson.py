"""Poisson's equation on the unit square."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from equations import equation, jets, points

_LOWER, _UPPER = (0.0, 0.0), (1.0, 1.0)


def _interior(field: jets.Field, at: Any) -> Any:
    u = field(at, second=(0, 1))
    source = 2 * math.pi**2 * ops.sin(math.pi * at[:, :1]) * ops.sin(math.pi * at[:, 1:])
    return -u.second[0] - u.second[1] - source


def _boundary(field: jets.Field, at: Any) -> Any:
    return field(at).value


def _solution(at: np.ndarray) -> np.ndarray:
    return np.prod(np.sin(np.pi * at), axis=1, keepdims=True)


EQUATION = equation.Equation(
    name="poisson",
    statement="-u_xx - u_yy = 2 pi^2 sin(pi x) sin(pi y),  u = 0 on the edge",
    source="Dangel, Mueller, Zeinhofer 2024, experiment 9 (2-64-1) and 15 (--hidden=64,64,48,48)",
    coordinates=("x", "y"),
    lower=_LOWER,
    upper=_UPPER,
    terms=(
        equation.Term("interior", _interior, points.inside(_LOWER, _UPPER), 900, 0.5),
        equation.Term("boundary", _boundary, points.edge(_LOWER, _UPPER, (0, 1)), 120, 0.5, True),
    ),
    solution=_solution,
    hidden=(64,),
    initialization="pytorch",
    lift=lambda at: ops.zeros_like(at[:, :1]),
    factor=lambda at: 16 * ops.prod(at * (1 - at), axis=1, keepdims=True),
)
