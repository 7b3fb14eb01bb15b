"""The loss of a physics-informed network: its terms, their points and weights, and the error."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from equations import equation as equation_lib
from equations import network


@dataclasses.dataclass(frozen=True)
class Settings:
    """How an equation is made a problem.

    Attributes:
        hidden: Widths of the network's layers.
        conditions: `"soft"`, as terms of the loss, or `"hard"`, by the form of the solution.
        dtype: Name of the precision.
        weights: Of terms, where they differ from the equation's.
        points: Numbers of points of terms, where they differ.
        interior: Shape (rows, d), fixed interior points, or None for random ones.
        resample_every: Steps between two drawings of points; 0 draws once.
        evaluation_points: Random points for the error.
        seed: Of weights and points.
    """

    hidden: Sequence[int]
    conditions: str = "soft"
    dtype: str = "float64"
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    points: Mapping[str, int] = dataclasses.field(default_factory=dict)
    interior: np.ndarray | None = None
    resample_every: int = 0
    evaluation_points: int = 9000
    seed: int = 0


class Problem:
    """A network to train on an equation.

    Args:
        equation: The equation.
        settings: See there.

    Attributes:
        equation: As the argument.
        network: The network.
        terms: Those of the loss.
        resample_every: As in the settings.

    Raises:
        ValueError: Points or weights are wrong; with their names.
    """

    def __init__(self, equation: equation_lib.Equation, settings: Settings) -> None:
        self.equation = equation
        self.terms = equation.terms_of(settings.conditions)
        self.resample_every = settings.resample_every
        self._settings = settings
        self._weights = equation_lib.check_weights(self.terms, settings.weights)
        self._generator = np.random.default_rng(settings.seed)
        self.network = network.Network(
            len(equation.coordinates),
            settings.hidden,
            equation.initialization,
            settings.seed,
            settings.dtype,
        )
        self._field = equation.field(self.network, settings.conditions)
        random = np.random.default_rng(settings.seed + 1)
        inside = equation.terms[0].draw(random, settings.evaluation_points)
        self._evaluation = tf.constant(inside, settings.dtype)
        self._reference = equation.solution(inside)
        self._values = tf.function(lambda at: self._field(at).value, autograph=False)

    def draw(self) -> list[tf.Tensor]:
        """Returns points for each term, each of shape (rows, d)."""
        drawn = []
        for term in self.terms:
            points = term.draw(self._generator, self._settings.points.get(term.name, term.points))
            if term is self.terms[0] and self._settings.interior is not None:
                points = self._settings.interior
            points = equation_lib.check_points(self.equation, term.name, points)
            drawn.append(tf.constant(points, self._settings.dtype))
        return drawn

    def loss(self, points: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the sum of weighted means of squares, a scalar.

        Args:
            points: As from `draw`.
        """
        return tf.add_n(
            [
                self._weights[term.name] * tf.reduce_mean(term.residual(self._field, at) ** 2)
                for term, at in zip(self.terms, points, strict=True)
            ]
        )

    def values(self, points: np.ndarray) -> np.ndarray:
        """Returns what the network takes for the solution, shape (rows, 1)."""
        found: Any = self._values(tf.constant(points, self._settings.dtype))
        return np.asarray(found, "float64")

    def errors(self) -> tuple[float, float]:
        """Returns the root mean square error, and the same relative to that of the solution."""
        difference = np.asarray(self._values(self._evaluation), "float64") - self._reference
        rms = float(np.sqrt(np.mean(difference**2)))
        return rms, rms / float(np.sqrt(np.mean(self._reference**2)))
