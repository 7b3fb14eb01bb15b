"""Points and conditions of equations in time on a periodic interval, as Rathore et al. set them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from equations import equation, jets, points

# Nodes of the grid of which the points are drawn.
_NODES_IN_SPACE, _NODES_IN_TIME = 257, 101


def meeting(length: float, slope: bool = False) -> Callable[[jets.Field, Any], Any]:
    """Returns the residual of u(t, x) = u(t, x + length), and of u_x alike, if asked for.

    Args:
        length: Of the interval.
        slope: Whether the slopes are to meet too; their differences follow those of the values.
    """

    def residual(field: jets.Field, at: Any) -> Any:
        first = (1,) if slope else ()
        shift = ops.convert_to_tensor([[0.0, length]], dtype=at.dtype)
        left, right = field(at, first), field(at + shift, first)
        gap = left.value - right.value
        if not slope:
            return gap
        return ops.concatenate([gap, left.first[1] - right.first[1]], axis=0)

    return residual


def terms(
    interior: Callable[[jets.Field, Any], Any],
    start: Callable[[Any], Any],
    lower: tuple[float, float],
    upper: tuple[float, float],
) -> tuple[equation.Term, ...]:
    """Returns interior, periodic and initial terms with the points of the source.

    Args:
        interior: Residual of the equation.
        start: Points -> u at time zero.
        lower: Least time and place.
        upper: Largest ones.
    """
    space = np.linspace(lower[1], upper[1], _NODES_IN_SPACE)
    time = np.linspace(lower[0], upper[0], _NODES_IN_TIME)

    def initial(field: jets.Field, at: Any) -> Any:
        return field(at).value - start(at)

    return (
        equation.Term("interior", interior, points.grid((time[1:], space[1:-1])), 10_000, 1.0),
        equation.Term(
            "periodic",
            meeting(upper[1] - lower[1]),
            points.grid((time, space[:1])),
            _NODES_IN_TIME,
            1.0,
        ),
        equation.Term(
            "initial", initial, points.grid((time[:1], space)), _NODES_IN_SPACE, 1.0, True
        ),
    )
