"""The wave equation with two frequencies, held at both ends."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from equations import equation, jets, points

_BETA = 5.0
_SPEED = 2.0
_LOWER, _UPPER = (0.0, 0.0), (1.0, 1.0)
_TIME, _SPACE = np.linspace(0, 1, 101), np.linspace(0, 1, 257)


def _interior(field: jets.Field, at: Any) -> Any:
    u = field(at, second=(0, 1))
    return u.second[0] - _SPEED**2 * u.second[1]


def _boundary(field: jets.Field, at: Any) -> Any:
    return field(at).value


def _start(at: Any) -> Any:
    x = at[:, 1:]
    return ops.sin(math.pi * x) + 0.5 * ops.sin(_BETA * math.pi * x)


def _initial(field: jets.Field, at: Any) -> Any:
    return field(at).value - _start(at)


def _at_rest(field: jets.Field, at: Any) -> Any:
    return field(at, first=(0,)).first[0]


def _solution(at: np.ndarray) -> np.ndarray:
    t, x = at[:, :1], at[:, 1:]

    def standing(wave: float) -> np.ndarray:
        return np.sin(wave * x) * np.cos(_SPEED * wave * t)

    return standing(np.pi) + 0.5 * standing(_BETA * np.pi)


_STARTS = points.grid((_TIME[:1], _SPACE))

EQUATION = equation.Equation(
    name="wave",
    statement="u_tt = 4 u_xx,  u(0, x) = sin(pi x) + sin(5 pi x) / 2,  u_t(0, x) = 0,  ends at 0",
    source="Rathore et al. 2024, arXiv 2402.01868, in float32 there",
    coordinates=("t", "x"),
    lower=_LOWER,
    upper=_UPPER,
    terms=(
        equation.Term("interior", _interior, points.grid((_TIME[1:], _SPACE[1:-1])), 10_000, 1.0),
        # One mean over both ends: twice its weight is the sum of a mean for each.
        equation.Term("boundary", _boundary, points.grid((_TIME, _SPACE[[0, -1]])), 202, 2.0, True),
        equation.Term("initial", _initial, _STARTS, 257, 1.0, True),
        equation.Term("at_rest", _at_rest, _STARTS, 257, 1.0, True),
    ),
    solution=_solution,
    hidden=(50, 50, 50),
    initialization="xavier",
    lift=_start,
    factor=lambda at: 4 * at[:, :1] ** 2 * at[:, 1:] * (1 - at[:, 1:]),
)
