"""Costs in gradients, counted by hand."""

import gradient_cost


def test_a_first_order_step_is_its_part_of_the_rows():
    assert gradient_cost.first_order_step(100, 2000) == 0.05


def test_a_newton_step_counts_gradient_products_and_trials():
    # One gradient, eleven products of two gradients on a quarter of the rows, three forward passes.
    assert gradient_cost.newton_step(800, 200, 10, 800) == 1 + 11 * 2 / 4 + 1.5
    # The Hessian never sees more rows than the gradient.
    assert gradient_cost.newton_step(400, 1000, 1, 800) == 0.5 + 2 * 2 * 0.5 + 0.75
