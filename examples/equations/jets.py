"""Values and derivatives of a function at points, as residuals are made of them.

A field maps points, shape (rows, d), to its jet there. Nested gradient tapes make one of any
function whose rows are independent. (Value and derivatives carried through the layers together gave
the same numbers; a gradient of the loss took one and a half times as long.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf


class Jet(NamedTuple):
    """A function and some of its derivatives, each of shape (rows, 1).

    Attributes:
        value: Of the function.
        first: Coordinate -> first derivative along it.
        second: Coordinate -> second derivative along it, twice the same coordinate.
    """

    value: Any
    first: Mapping[int, Any]
    second: Mapping[int, Any]


class Field(Protocol):
    """A function that knows its derivatives."""

    def __call__(self, points: Any, first: Sequence[int] = (), second: Sequence[int] = ()) -> Jet:
        """Returns the jet at points of shape (rows, d).

        Args:
            points: Shape (rows, d).
            first: Coordinates along which the first derivative is wanted.
            second: Coordinates along which the first and second derivatives are wanted.
        """


def taped(function: Callable[[Any], Any]) -> Field:
    """Returns the field of a function, by nested gradient tapes.

    Args:
        function: (rows, d) -> (rows, 1), each row from its point alone.
    """

    def field(points: Any, first: Sequence[int] = (), second: Sequence[int] = ()) -> Jet:
        if not (first or second):
            return Jet(function(points), {}, {})
        points = tf.identity(points)
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(points)
            with tf.GradientTape() as inner:
                inner.watch(points)
                value = function(points)
            # That of the sum over rows, of which each depends on its own point.
            gradient = inner.gradient(value, points, unconnected_gradients="zero")
            columns = {i: gradient[:, i : i + 1] for i in sorted({*first, *second})}
        bends = {
            i: outer.gradient(columns[i], points, unconnected_gradients="zero")[:, i : i + 1]
            for i in second
        }
        return Jet(value, columns, bends)

    return field
