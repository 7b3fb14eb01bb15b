"""Helmholtz's equation on a square."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from equations import equation, jets, points

_LOWER, _UPPER = (-1.0, -1.0), (1.0, 1.0)
_WAVES = (1, 4)
_K = 1.0


def _interior(field: jets.Field, at: Any) -> Any:
    u = field(at, second=(0, 1))
    sines = [ops.sin(math.pi * wave * at[:, i : i + 1]) for i, wave in enumerate(_WAVES)]
    factor = _K**2 - math.pi**2 * sum(wave**2 for wave in _WAVES)
    return u.second[0] + u.second[1] + _K**2 * u.value - factor * sines[0] * sines[1]


def _boundary(field: jets.Field, at: Any) -> Any:
    return field(at).value


def _solution(at: np.ndarray) -> np.ndarray:
    return np.prod(np.sin(np.pi * np.array(_WAVES) * at), axis=1, keepdims=True)


EQUATION = equation.Equation(
    name="helmholtz",
    statement="u_xx + u_yy + u = q,  u = 0 on the edge,  q such that u = sin(pi x) sin(4 pi y)",
    source="Wang, Teng, Perdikaris 2021 (arXiv 2001.04536), section 4.1; points and network ours",
    coordinates=("x", "y"),
    lower=_LOWER,
    upper=_UPPER,
    terms=(
        equation.Term("interior", _interior, points.inside(_LOWER, _UPPER), 2000, 1.0),
        equation.Term("boundary", _boundary, points.edge(_LOWER, _UPPER, (0, 1)), 400, 100.0, True),
    ),
    solution=_solution,
    hidden=(32, 32, 32),
    initialization="xavier",
    lift=lambda at: ops.zeros_like(at[:, :1]),
    factor=lambda at: ops.prod(1 - at * at, axis=1, keepdims=True),
)
