"""What a check of curvature found, variable by variable: verdicts and a table."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

RIGHT, NONE, WRONG, UNRESOLVED = "right", "right (zero)", "wrong", "not resolved"

# Estimates of the error of differences scatter by a few times; where there is no curvature, product
# and difference are both rounding, and the ratio of two such numbers scatters by more.
SAFETY, _SAFETY_AT_ZERO = 3, 10


@dataclasses.dataclass(frozen=True)
class VariableCheck:
    """The comparison for one variable.

    Attributes:
        path: Path of the variable in the model.
        shape: Its shape.
        relative_error: |product - difference| over the larger of the two, both over this variable's
            coordinates and all directions.
        uncertainty: Estimated error of the differences themselves, relative to the same.
        verdict: `"right"`; `"right (zero)"`: no curvature but for rounding; `"wrong"`; or
            `"not resolved"`: the differences are too inexact to tell.
    """

    path: str
    shape: tuple[int, ...]
    relative_error: float
    uncertainty: float
    verdict: str


@dataclasses.dataclass(frozen=True)
class GradientCheck:
    """The comparison of the gradient with differences of the loss.

    Attributes:
        relative_error: |slope - difference| over the larger of the two, over all directions.
        verdict: As of `VariableCheck`, but never `"right (zero)"`. Near a minimum it may not be
            resolved, nor is it in half precision.
        held: Whether the loss changes otherwise where what is under `stop_gradient` is not held
            constant.
    """

    relative_error: float = 0.0
    verdict: str = RIGHT
    held: bool = False


@dataclasses.dataclass(frozen=True, repr=False)
class CurvatureReport:
    """What `check_curvature` found; true where gradient and every variable's curvature are right.

    Attributes:
        variables: One `VariableCheck` for each trainable variable.
        tolerance: Largest relative error that counts as right.
        num_kinks: Number of ops with kinks (ReLU, max-pooling) that were continued smoothly.
        gradient: Whether the gradient is the derivative of the loss.
    """

    variables: tuple[VariableCheck, ...]
    tolerance: float
    num_kinks: int
    gradient: GradientCheck = GradientCheck()

    def __bool__(self) -> bool:
        return not self._failed() and self.gradient.verdict != WRONG

    @property
    def wrong(self) -> tuple[str, ...]:
        """Paths of the variables whose curvature is wrong."""
        return tuple(check.path for check in self.variables if check.verdict == WRONG)

    def __str__(self) -> str:
        header = ["variable", "shape", "relative error", "verdict"]
        rows = [
            [check.path, str(check.shape), f"{check.relative_error:.1e}", check.verdict]
            for check in self.variables
        ]
        widths = [max(len(row[column]) for row in [header, *rows]) for column in range(4)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [header, ["-" * width for width in widths], *rows]
        ]
        failed = self._failed()
        summary = (
            f"The curvature of {failed} of {len(rows)} variables is not shown to be right"
            if failed
            else "The curvature is right"
        )
        lines.append(f"{summary} (tolerance {self.tolerance:g}, {self.num_kinks} kinks held).")
        lines.extend(_of_gradient(self.gradient))
        return "\n".join(lines)

    __repr__ = __str__

    def _failed(self) -> int:
        return sum(check.verdict not in (RIGHT, NONE) for check in self.variables)


def _of_gradient(gradient: GradientCheck) -> list[str]:
    if gradient.verdict == WRONG:
        return [
            "The gradient is not the derivative of the loss (relative error "
            f"{gradient.relative_error:.1e}): rounding that lets gradients through, or a reversed "
            "gradient. Steps follow the gradient and are judged by the loss."
        ]
    if gradient.held:
        return [
            "What is under `stop_gradient` changes with the variables. Each step lowers the loss "
            "with that held constant; the loss itself may rise."
        ]
    return []


def judge(
    variables: list[keras.Variable],
    parts: list[slice],
    products: np.ndarray,
    differences: np.ndarray,
    errors: np.ndarray,
    *,
    tolerance: float,
    epsilon: float,
    has_free_kinks: bool,
) -> tuple[VariableCheck, ...]:
    """Compares products with differences for each variable.

    Args:
        variables: The variables.
        parts: The coordinates of each.
        products: Shape (directions, n).
        differences: Shape (directions, n).
        errors: Estimated errors of the differences, shape (directions, len(variables)).
        tolerance: Largest relative error that counts as right.
        epsilon: Precision of the products.
        has_free_kinks: Whether differences may have jumped over kinks.
    """
    typical = np.sqrt(np.mean(products**2))
    checks = []
    for variable, part, error in zip(variables, parts, errors.T, strict=True):
        product, difference = products[:, part], differences[:, part]
        length = float(np.linalg.norm(product))
        distance = float(np.linalg.norm(product - difference))
        uncertainty = float(np.linalg.norm(error))
        size = max(length, float(np.linalg.norm(difference)), np.finfo("float64").tiny)
        # Nothing but rounding: a bias before a normalisation, an unused weight.
        nothing = length <= np.sqrt(epsilon * product.size) * typical
        if not np.isfinite(distance):
            verdict = WRONG
        elif nothing and distance <= max(_SAFETY_AT_ZERO * uncertainty, tolerance * size):
            verdict = NONE
        elif distance <= tolerance * size:
            verdict = RIGHT
        elif has_free_kinks or distance <= SAFETY * uncertainty:
            verdict = UNRESOLVED
        else:
            verdict = WRONG
        shape = tuple(variable.shape)
        checks.append(
            VariableCheck(variable.path, shape, distance / size, uncertainty / size, verdict)
        )
    return tuple(checks)
