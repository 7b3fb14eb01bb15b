"""What an equation consists of, for a physics-informed network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from equations import jets


@dataclasses.dataclass(frozen=True)
class Term:
    """A mean of squares that vanishes at the solution: inside the domain, or a condition.

    Attributes:
        name: One word, as in `--weights` and `--points`.
        residual: (field, points) -> shape (rows, 1), zero where the field is the solution.
        draw: (generator, rows) -> random points, shape (rows, d).
        points: How many, by default.
        weight: Factor on the mean of squares, by default.
        implied: Whether the hard form of the conditions has it hold anyway.
    """

    name: str
    residual: Callable[[jets.Field, Any], Any]
    draw: Callable[[np.random.Generator, int], np.ndarray]
    points: int
    weight: float
    implied: bool = False


@dataclasses.dataclass(frozen=True)
class Equation:
    """A differential equation on a box, with its conditions and its solution.

    Attributes:
        name: As in `--equation`.
        statement: In plain ASCII.
        source: Of the set-up, and what differs from it.
        coordinates: Their names.
        lower: Least coordinates of the box.
        upper: Largest ones.
        terms: The interior first.
        solution: Points of shape (rows, d) -> reference values, shape (rows, 1), float64.
        hidden: Widths of the network's layers, by default.
        initialization: As of `network.Network`.
        lift: Points -> values that meet the implied conditions, shape (rows, 1). In their hard form
            the solution is lift + factor * network.
        factor: Points -> values that vanish where these conditions are set.
    """

    name: str
    statement: str
    source: str
    coordinates: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    terms: tuple[Term, ...]
    solution: Callable[[np.ndarray], np.ndarray]
    hidden: tuple[int, ...]
    initialization: str
    lift: Callable[[Any], Any]
    factor: Callable[[Any], Any]

    def terms_of(self, conditions: str) -> tuple[Term, ...]:
        """Returns the terms of the loss under `"soft"` or `"hard"` conditions."""
        return tuple(term for term in self.terms if conditions == "soft" or not term.implied)

    def field(self, network: Callable[[Any], Any], conditions: str) -> jets.Field:
        """Returns the field of the solution that a network makes."""
        if conditions == "soft":
            return jets.taped(network)
        return jets.taped(lambda at: self.lift(at) + self.factor(at) * network(at))


def check_points(equation: Equation, name: str, points: np.ndarray) -> np.ndarray:
    """Returns points, shape (rows, d), as float64.

    Args:
        equation: Whose domain they lie in.
        name: Of the term or file, for the message.
        points: What is checked.

    Raises:
        ValueError: They have another shape, are not finite, or lie outside the domain.
    """
    points = np.asarray(points, "float64")
    size = len(equation.coordinates)
    if points.ndim != 2 or points.shape[1] != size or not len(points):
        raise ValueError(
            f"The points `{name}` must have shape (rows, {size}), for {equation.coordinates} of "
            f"{equation.name}. Received: shape {points.shape}. Give one row a point."
        )
    for bad, rule in (
        (~np.isfinite(points), "be finite"),
        (
            (points < np.array(equation.lower)) | (points > np.array(equation.upper)),
            f"lie in the domain from {equation.lower} to {equation.upper}",
        ),
    ):
        rows = np.flatnonzero(bad.any(axis=1))
        if len(rows):
            raise ValueError(
                f"The points `{name}` of {equation.name} must {rule}. Received: row {rows[0]} is "
                f"{points[rows[0]].tolist()} ({len(rows)} such rows). Remove or repair them."
            )
    return points


def check_weights(terms: tuple[Term, ...], weights: Mapping[str, float]) -> dict[str, float]:
    """Returns the weight of each term: that of `weights`, or the default.

    Raises:
        ValueError: A name is unknown, or a weight is not a finite number above zero.
    """
    names = [term.name for term in terms]
    for name, weight in weights.items():
        if name not in names:
            raise ValueError(
                f"`weights` must be of terms of the loss: {', '.join(names)}. Received: {name!r}. "
                "Choose one of these."
            )
        if not (np.isfinite(weight) and weight > 0):
            raise ValueError(
                f"`weights` must be finite and above zero. Received: {name}={weight}. Raise it, or "
                "leave it out for the default."
            )
    return {term.name: float(weights.get(term.name, term.weight)) for term in terms}
