"""The heat equation in one dimension of space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from equations import equation, jets, points

_LOWER, _UPPER = (0.0, 0.0), (1.0, 1.0)


def _interior(field: jets.Field, at: Any) -> Any:
    u = field(at, first=(0,), second=(1,))
    return u.first[0] - u.second[1] / 4


def _boundary(field: jets.Field, at: Any) -> Any:
    return field(at).value


def _start(at: Any) -> Any:
    return ops.sin(math.pi * at[:, 1:])


def _initial(field: jets.Field, at: Any) -> Any:
    return field(at).value - _start(at)


def _solution(at: np.ndarray) -> np.ndarray:
    return np.exp(-(np.pi**2) / 4 * at[:, :1]) * np.sin(np.pi * at[:, 1:])


EQUATION = equation.Equation(
    name="heat",
    statement="u_t = u_xx / 4,  u(0, x) = sin(pi x),  u = 0 at x = 0 and 1",
    source="Dangel, Mueller, Zeinhofer 2024, experiment 13: one mean over both conditions there, "
    "which is half of each of ours",
    coordinates=("t", "x"),
    lower=_LOWER,
    upper=_UPPER,
    terms=(
        equation.Term("interior", _interior, points.inside(_LOWER, _UPPER), 900, 0.5),
        equation.Term("boundary", _boundary, points.edge(_LOWER, _UPPER, (1,)), 60, 0.25, True),
        equation.Term("initial", _initial, points.face(_LOWER, _UPPER, 0, 0.0), 60, 0.25, True),
    ),
    solution=_solution,
    hidden=(64,),
    initialization="pytorch",
    lift=_start,
    factor=lambda at: 4 * at[:, :1] * at[:, 1:] * (1 - at[:, 1:]),
)
