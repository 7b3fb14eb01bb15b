"""The least arithmetic and memory traffic of the parts of a step, counted by hand.

Both are floors. Arithmetic is that of matrix products alone. Traffic is each vector of n numbers
once where it must be read or written, as if nothing of that length stayed in a cache, and nothing
for activations. What a product needs of the gradient's own passes is done once a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# Losses that a search for the damping evaluates: at the last value, and on both sides of it.
_TRIALS = 3

_BYTES = 4  # of a number


class Work(NamedTuple):
    """Floating-point operations, and bytes read or written."""

    flops: float
    bytes: float


def total(parts: Sequence[tuple[float, Work]]) -> Work:
    """Returns the sum of parts, each so many times."""
    return Work(
        sum(times * work.flops for times, work in parts),
        sum(times * work.bytes for times, work in parts),
    )


class Parts:
    """What the parts of a step cost on a dense network.

    Args:
        shapes: (inputs, units) of each layer in turn.
        rows: Of the batch.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], rows: int) -> None:
        weights = [inputs * units for inputs, units in shapes]
        # A layer's bias is a row more of its matrix.
        self._matrices = [(inputs + 1, units) for inputs, units in shapes]
        self._eigenvectors = float(_BYTES * sum(m**2 + n**2 for m, n in self._matrices))
        # A product of the batch, or of its derivative, with the weights of all layers; and with
        # those of all but the first, whose inputs have no derivative.
        self._all = 2.0 * rows * sum(weights)
        self._inner = 2.0 * rows * sum(weights[1:])
        self._vector = float(_BYTES * sum(inputs * units + units for inputs, units in shapes))

    def loss(self) -> Work:
        """Forwards: a product a layer."""
        return Work(self._all, self._vector)

    def gradient(self) -> Work:
        """Forwards; then backwards to weights and inputs. The gradient is written."""
        return Work(2 * self._all + self._inner, 2 * self._vector)

    def before_products(self) -> Work:
        """What all products at one point share: forwards, and backwards to the inputs."""
        return Work(self._all + self._inner, self._vector)

    def another_product(self) -> Work:
        """Twice the products of a gradient, none with the derivative of the first inputs.

        Weights and vector are read, the product is written.
        """
        return Work(2 * self._all + 4 * self._inner, 3 * self._vector)

    def product(self) -> Work:
        """One product alone."""
        return total([(1, self.before_products()), (1, self.another_product())])

    def products(self, count: int) -> Work:
        """Products of each other, normalised: read once more and written."""
        normalised = Work(0, 2 * self._vector)
        return total(
            [(1, self.before_products()), (count, self.another_product()), (count, normalised)]
        )

    def lanczos(self, count: int) -> Work:
        """Products, each with a pass over the rows so far, which reads them twice, and a new row.

        Coefficients are known only after the first reading.
        """
        rows = count * (count + 1) / 2
        passes = Work(4 * rows * self._vector / _BYTES, 2 * rows * self._vector)
        written = Work(0, count * self._vector)
        return total(
            [
                (1, self.before_products()),
                (count, self.another_product()),
                (1, passes),
                (1, written),
            ]
        )

    def step(self, basis_rows: int) -> Work:
        """A gradient, the Lanczos process, and trials that read the basis and lose the batch."""
        return total(
            [
                (1, self.gradient()),
                (1, self.lanczos(basis_rows)),
                (_TRIALS, self.combined(basis_rows)),
                (_TRIALS, self.loss()),
            ]
        )

    def combined(self, basis_rows: int) -> Work:
        """A vector from its coordinates: reads the basis."""
        return Work(2 * basis_rows * self._vector / _BYTES, basis_rows * self._vector)

    def solve(self) -> Work:
        """The preconditioner: each layer's matrix into its eigenvectors on both sides, and back.

        Vector and curvature are read, as are the eigenvectors, and the solution is written.
        """
        return Work(2 * self.rotation().flops, self._eigenvectors + 3 * self._vector)

    def rotation(self) -> Work:
        """Half a solution: as many operations as the moments of a sample."""
        flops = sum(2.0 * m * n * (m + n) for m, n in self._matrices)
        return Work(flops, self._eigenvectors + 2 * self._vector)


def default_step(basis_rows: int, batch: Parts, curvature: Parts) -> Work:
    """A gradient, a product a row, solutions of all but the previous step, and trials.

    Args:
        basis_rows: With the previous step.
        batch: Of all rows.
        curvature: Of the rows whose Hessian is taken.
    """
    products = total([(1, curvature.before_products()), (basis_rows, curvature.another_product())])
    return total(
        [
            (1, batch.gradient()),
            (1, products),
            (basis_rows - 1, batch.solve()),
            (_TRIALS, batch.combined(basis_rows)),
            (_TRIALS, batch.loss()),
        ]
    )


def renewal(samples: int, part: Parts, probes: int, curvature: Parts) -> Work:
    """What the preconditioner is made of, without the eigenvectors.

    Args:
        samples: Gradients, and the moments of their layers.
        part: Of the rows of one.
        probes: Products, rotated.
        curvature: Of the rows whose Hessian is taken.
    """
    return total(
        [
            (samples, part.gradient()),
            (samples, part.rotation()),
            (1, curvature.before_products()),
            (probes, curvature.another_product()),
            (probes, curvature.rotation()),
        ]
    )
