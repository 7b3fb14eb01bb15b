"""Burgers' equation with little viscosity: a shock forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from equations import equation, jets, points

_VISCOSITY = 0.01 / math.pi
_LOWER, _UPPER = (0.0, -1.0), (1.0, 1.0)

# The integrands of the solution are below rounding beyond this distance; smooth and of width above
# 0.2, so that the trapezoidal rule with these nodes is exact to rounding.
_REACH, _NODES = 13.0, 601
_ROWS_AT_A_TIME = 2000


def _interior(field: jets.Field, at: Any) -> Any:
    u = field(at, first=(0,), second=(1,))
    return u.first[0] + u.value * u.first[1] - _VISCOSITY * u.second[1]


def _boundary(field: jets.Field, at: Any) -> Any:
    return field(at).value


def _start(at: Any) -> Any:
    return -ops.sin(math.pi * at[:, 1:])


def _initial(field: jets.Field, at: Any) -> Any:
    return field(at).value - _start(at)


def _solution(at: np.ndarray) -> np.ndarray:
    """By the transformation of Cole and Hopf, with both integrals over z, y = x - z sqrt(4 nu t).

    u = - integral sin(pi y) w(y, z) dz / integral w(y, z) dz,
    w = exp(-z^2 - cos(pi y) / (2 pi nu))

    Reference: Basdevant et al., Spectral and finite difference solutions of the Burgers equation,
    Computers and Fluids 14 (1986).
    """
    z = np.linspace(-_REACH, _REACH, _NODES)
    parts = []
    for first in range(0, len(at), _ROWS_AT_A_TIME):
        t, x = np.split(at[first : first + _ROWS_AT_A_TIME], 2, axis=1)
        y = x - z * np.sqrt(4 * _VISCOSITY * t)
        exponent = -(z**2) - np.cos(np.pi * y) / (2 * np.pi * _VISCOSITY)
        # They reach 50.
        weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        top = np.sum(np.sin(np.pi * y) * weight, axis=1, keepdims=True)
        parts.append(-top / weight.sum(axis=1, keepdims=True))
    return np.concatenate(parts)


EQUATION = equation.Equation(
    name="burgers",
    statement="u_t + u u_x = (0.01 / pi) u_xx,  u(0, x) = -sin(pi x),  u = 0 at x = -1 and 1",
    source="Raissi, Perdikaris, Karniadakis 2019: 10,000 and 100 points, eight layers of 20 there",
    coordinates=("t", "x"),
    lower=_LOWER,
    upper=_UPPER,
    terms=(
        equation.Term("interior", _interior, points.inside(_LOWER, _UPPER), 4000, 1.0),
        equation.Term("boundary", _boundary, points.edge(_LOWER, _UPPER, (1,)), 100, 1.0, True),
        equation.Term("initial", _initial, points.face(_LOWER, _UPPER, 0, 0.0), 200, 1.0, True),
    ),
    solution=_solution,
    hidden=(20, 20, 20, 20),
    initialization="xavier",
    lift=_start,
    factor=lambda at: at[:, :1] * (1 - at[:, 1:] ** 2),
)
