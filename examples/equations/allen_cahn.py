"""The equation of Allen and Cahn: sharp layers between two phases."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from keras import ops

from equations import equation, jets, periodic, points

_DIFFUSION, _RATE = 1e-4, 5.0
_LOWER, _UPPER = (0.0, -1.0), (1.0, 1.0)

# Of the reference.
_MODES, _STEPS, _KEPT = 1024, 400, 2
_ROWS_AT_A_TIME = 1000


def _interior(field: jets.Field, at: Any) -> Any:
    u = field(at, first=(0,), second=(1,))
    return u.first[0] - _DIFFUSION * u.second[1] + _RATE * (u.value**3 - u.value)


def _start(at: Any) -> Any:
    x = at[:, 1:]
    return x * x * ops.cos(math.pi * x)


def _initial(field: jets.Field, at: Any) -> Any:
    return field(at).value - _start(at)


def _solution(at: np.ndarray) -> np.ndarray:
    """Fourier series in space, from `series`; cubic interpolation of its coefficients in time.

    At time zero a series would be off at the kink, x = -1 and 1.
    """
    kept = series()
    waves = np.arange(kept.shape[1])
    parts = []
    for begin in range(0, len(at), _ROWS_AT_A_TIME):
        t, x = at[begin : begin + _ROWS_AT_A_TIME].T
        position = t * (len(kept) - 1)
        first = np.clip(np.floor(position).astype(int) - 1, 0, len(kept) - 4)
        states = sum(
            weight[:, None] * kept[first + i] for i, weight in enumerate(_cubic(position - first))
        )
        values = np.sum(states * np.exp(1j * np.pi * np.outer(x + 1, waves)), axis=1).real
        parts.append(np.where(t > 0, values, x**2 * np.cos(np.pi * x)))
    return np.concatenate(parts)[:, None]


def _cubic(offset: np.ndarray) -> list[np.ndarray]:
    """Returns Lagrange's weights of the nodes 0, 1, 2, 3."""
    return [np.prod([(offset - j) / (i - j) for j in range(4) if j != i], axis=0) for i in range(4)]


@functools.cache
def series(modes: int = _MODES, steps: int = _STEPS, kept: int = _KEPT) -> np.ndarray:
    """Returns coefficients c such that u = real part of the sum of c_k exp(i pi k (x + 1)).

    By exponential time differencing of fourth order: diffusion is exact, the reaction by a rule of
    Runge and Kutta, whose coefficients are means over a circle where their formulas cancel.

    Args:
        modes: Points of the grid in space.
        steps: Of time.
        kept: A state is kept every so many steps.

    Returns:
        Shape (steps / kept + 1, modes / 2 + 1), complex.

    Reference: Kassam and Trefethen, Fourth-order time-stepping for stiff PDEs, SIAM Journal on
    Scientific Computing 26 (2005).
    """
    wave = np.pi * np.arange(modes // 2 + 1)
    size = 1 / steps
    linear = -_DIFFUSION * wave**2 * size
    circle = linear[:, None] + np.exp(1j * np.pi * (np.arange(32) + 0.5) / 32)

    def mean(values: np.ndarray) -> np.ndarray:
        return size * values.mean(axis=1).real

    whole, half = np.exp(linear), np.exp(linear / 2)
    e = np.exp(circle)
    q = mean((np.exp(circle / 2) - 1) / circle)
    f1 = mean((-4 - circle + e * (4 - 3 * circle + circle**2)) / circle**3)
    f2 = mean((2 + circle + e * (circle - 2)) / circle**3)
    f3 = mean((-4 - 3 * circle - circle**2 + e * (4 - circle)) / circle**3)

    def reaction(state: np.ndarray) -> np.ndarray:
        u = np.fft.irfft(state, modes)
        return np.fft.rfft(_RATE * (u - u**3))

    state = modes * _initial_coefficients(modes // 2 + 1)
    states = [state]
    for step in range(1, steps + 1):
        now = reaction(state)
        a = half * state + q * now
        at_a = reaction(a)
        b = half * state + q * at_a
        at_b = reaction(b)
        c = half * a + q * (2 * at_b - now)
        state = whole * state + f1 * now + 2 * f2 * (at_a + at_b) + f3 * reaction(c)
        if step % kept == 0:
            states.append(state)
    # Each but the first and the last is there for its conjugate too.
    factors = np.full(modes // 2 + 1, 2.0)
    factors[[0, -1]] = 1
    return np.array(states) * factors / modes


def _initial_coefficients(count: int) -> np.ndarray:
    """Those of exp(i pi k (x + 1)) in x^2 cos(pi x), by integration: sampled, they would alias."""
    k = np.arange(count)

    def integral(m: np.ndarray) -> np.ndarray:
        """Of x^2 cos(m pi x) over [-1, 1]."""
        return np.where(m == 0, 2 / 3, 4 * (-1.0) ** m / (np.pi * np.where(m == 0, 1, m)) ** 2)

    return (-1.0) ** k * (integral(k + 1) + integral(k - 1)) / 4


EQUATION = equation.Equation(
    name="allen_cahn",
    statement="u_t = 0.0001 u_xx - 5 u^3 + 5 u,  u(0, x) = x^2 cos(pi x),  periodic over [-1, 1]",
    source="Raissi, Perdikaris, Karniadakis 2019, there by a rule of Runge and Kutta; points and "
    "network ours",
    coordinates=("t", "x"),
    lower=_LOWER,
    upper=_UPPER,
    terms=(
        equation.Term("interior", _interior, points.inside(_LOWER, _UPPER), 4000, 1.0),
        equation.Term(
            "periodic",
            periodic.meeting(2.0, slope=True),
            points.face(_LOWER, _UPPER, 1, -1.0),
            100,
            1.0,
        ),
        equation.Term("initial", _initial, points.face(_LOWER, _UPPER, 0, 0.0), 500, 100.0, True),
    ),
    solution=_solution,
    hidden=(32, 32, 32, 32),
    initialization="xavier",
    lift=_start,
    factor=lambda at: at[:, :1],
)
