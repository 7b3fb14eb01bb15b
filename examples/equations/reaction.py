"""The reaction equation: logistic growth at each place by itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from equations import equation, jets, periodic

_RHO = 5.0
_WIDTH = math.pi / 4
_LOWER, _UPPER = (0.0, 0.0), (1.0, 2 * math.pi)


def _interior(field: jets.Field, at: Any) -> Any:
    u = field(at, first=(0,))
    return u.first[0] - _RHO * u.value * (1 - u.value)


def _start(at: Any) -> Any:
    return ops.exp(-0.5 * ops.square((at[:, 1:] - math.pi) / _WIDTH))


def _solution(at: np.ndarray) -> np.ndarray:
    start = np.exp(-0.5 * np.square((at[:, 1:] - np.pi) / _WIDTH))
    grown = start * np.exp(_RHO * at[:, :1])
    return grown / (grown + 1 - start)


EQUATION = equation.Equation(
    name="reaction",
    statement="u_t = 5 u (1 - u),  u(0, x) a bell around pi,  periodic in x over 2 pi",
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
