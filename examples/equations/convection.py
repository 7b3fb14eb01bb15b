"""The convection equation: a wave that is carried along fast."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from equations import equation, jets, periodic

_BETA = 40.0
_LOWER, _UPPER = (0.0, 0.0), (1.0, 2 * math.pi)


def _interior(field: jets.Field, at: Any) -> Any:
    u = field(at, first=(0, 1))
    return u.first[0] + _BETA * u.first[1]


def _start(at: Any) -> Any:
    return ops.sin(at[:, 1:])


def _solution(at: np.ndarray) -> np.ndarray:
    return np.sin(at[:, 1:] - _BETA * at[:, :1])


EQUATION = equation.Equation(
    name="convection",
    statement="u_t + 40 u_x = 0,  u(0, x) = sin(x),  periodic in x over 2 pi",
    source="Rathore et al. 2024, arXiv 2402.01868, in float32 there",
    coordinates=("t", "x"),
    lower=_LOWER,
    upper=_UPPER,
    terms=periodic.terms(_interior, _start, _LOWER, _UPPER),
    solution=_solution,
    hidden=(50, 50, 50),
    initialization="xavier",
    lift=_start,
    factor=lambda at: at[:, :1],
)
