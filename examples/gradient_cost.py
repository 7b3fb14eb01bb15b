"""What a step costs, in gradients of the whole training set."""

from __future__ import annotations


def first_order_step(batch_size: int, rows: int) -> float:
    """Returns the cost of a step that takes one gradient of a batch."""
    return batch_size / rows


def newton_step(batch_size: int, curvature_rows: int, krylov_dimension: int, rows: int) -> float:
    """Returns the cost of a step of a Krylov method, with the previous step in its subspace.

    A product counts as two gradients and a forward pass as half a gradient. There is a product for
    each Lanczos vector and one for the previous step, and three dampings are tried.

    Args:
        batch_size: Rows of the gradient.
        curvature_rows: Rows of the Hessian.
        krylov_dimension: Lanczos vectors.
        rows: Of the training set.
    """
    products = 2 * (krylov_dimension + 1) * min(curvature_rows, batch_size)
    return (batch_size + products + 0.5 * 3 * batch_size) / rows
