"""What a step costs, in gradients of the whole training set."""

from __future__ import annotations


def first_order_step(batch_size: int, rows: int) -> float:
    """Returns the cost of a step that takes one gradient of a batch."""
    return batch_size / rows


def newton_step(
    batch_size: int,
    curvature_rows: int,
    krylov_dimension: int,
    rows: int,
    *,
    inner_steps: int = 1,
    use_previous_step: bool = True,
    trials: int = 3,
    preconditioned: bool = False,
) -> float:
    """Returns the cost of a step of a Krylov method.

    A product counts as two gradients and a forward pass as half a gradient. There is a product for
    each direction and one for the previous step where that is used; each inner step takes a
    gradient and tries some dampings. A preconditioner takes, every 20 steps, the gradients of four
    parts of the batch (quarters; 256 rows at least), four products and those of three more
    subspaces.

    Args:
        batch_size: Rows of the gradient.
        curvature_rows: Rows of the Hessian.
        krylov_dimension: Lanczos vectors.
        rows: Of the training set.
        inner_steps: Steps in one subspace.
        use_previous_step: Whether the previous step is in the subspace.
        trials: Dampings tried in an inner step.
        preconditioned: Whether directions are preconditioned.
    """
    product = 2 * min(curvature_rows, batch_size)
    products = (krylov_dimension + use_previous_step) * product
    samples = 4 * min(max(batch_size / 4, 256), batch_size)
    renewal = (samples + 4 * product + 3 * products) / 20 if preconditioned else 0
    return (products + renewal + inner_steps * (1 + 0.5 * trials) * batch_size) / rows
