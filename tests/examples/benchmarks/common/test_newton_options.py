"""Arguments of the optimizer in a flag."""

import pytest

from benchmarks.common import newton_options


def test_arguments_of_the_optimizer_in_a_flag():
    optimizer = newton_options.optimizer(
        "newton", 'krylov_dimension=5, damping="adaptive"', krylov_dimension=3, inner_steps=2
    )
    assert (optimizer.krylov_dimension, optimizer.damping) == (5, "adaptive")
    assert optimizer.inner_steps == 2


@pytest.mark.parametrize("text", ["5", "*a", "**a", "k=", "seed=[", "seed=print()", "seed=-1"])
def test_what_are_no_arguments_of_the_optimizer_is_said_in_a_line(text):
    with pytest.raises(SystemExit, match=r"--newton=.* must be arguments such as") as error:
        newton_options.optimizer("newton", text)
    assert "\n" not in str(error.value)
