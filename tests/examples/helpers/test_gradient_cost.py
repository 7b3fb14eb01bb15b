"""Costs in gradients, counted by hand."""

from helpers import gradient_cost


def test_a_first_order_step_is_its_part_of_the_rows():
    assert gradient_cost.first_order_step(100, 2000) == 0.05


def test_a_newton_step_counts_gradient_products_and_trials():
    # One gradient, eleven products of two gradients on a quarter of the rows, three forward passes.
    assert gradient_cost.newton_step(800, 200, 10, 800) == 1 + 11 * 2 / 4 + 1.5
    # The Hessian never sees more rows than the gradient.
    assert gradient_cost.newton_step(400, 1000, 1, 800) == 0.5 + 2 * 2 * 0.5 + 0.75


def test_each_inner_step_has_its_own_gradient_and_trials():
    cost = gradient_cost.newton_step(100, 50, 5, 100, inner_steps=3, use_previous_step=False)
    assert cost == 5 * 2 / 2 + 3 * (1 + 1.5)


def test_a_preconditioner_costs_gradients_and_subspaces_every_twenty_steps():
    cost = gradient_cost.newton_step(100, 50, 1, 100, trials=1, preconditioned=True)
    # Two products of half the rows each; four gradients and eight such products in twenty steps.
    assert cost == 2 + (4 + 10) / 20 + 1.5
    # Of a larger batch each of the four is of a quarter.
    cost = gradient_cost.newton_step(2000, 1000, 1, 2000, trials=1, preconditioned=True)
    assert cost == 2 + (1 + 10) / 20 + 1.5
