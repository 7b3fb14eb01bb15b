"""Tests for examples/benchmarks/time_to_loss/settings.py."""

import pytest

from benchmarks.time_to_loss import settings, tasks


def test_every_default_has_grids():
    assert len(settings.DEFAULTS) == 4
    assert all(callable(getattr(tasks, name)) for name in settings.DEFAULTS)
    for task in (*settings.DEFAULTS.values(), settings.QUICK):
        for values in (task.adam_rates, task.sgd_rates, task.batch_sizes):
            assert list(values) == sorted(set(values))
            assert values[0] > 0


def test_an_empty_variant_is_the_defaults():
    assert settings.newton_variant("") == ("defaults", {}, None)


def test_a_variant_has_literals_of_each_kind():
    text = "krylov_dimension=5, damping=[1.0, 0.1], max_step_norm=None"
    variant = settings.newton_variant(text)
    assert variant.settings == text
    assert variant.options == {
        "krylov_dimension": 5,
        "damping": [1.0, 0.1],
        "max_step_norm": None,
    }
    assert variant.batch_size is None


def test_the_batch_size_is_no_argument_of_the_optimizer():
    variant = settings.newton_variant("inner_steps=2,batch_size=450")
    assert variant.options == {"inner_steps": 2}
    assert variant.batch_size == 450


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("krylov_dimension", "cannot be read. Write name=value"),
        ("krylov_dimension=5)(", "cannot be read"),
        ("krylov_dimension=open('x')", "cannot be read"),
        ("**{'seed': 1}", "cannot be read"),
        ("seed=1), print('x'", "cannot be read"),
        ("batch_size=0", "`batch_size` must be an integer >= 1"),
        ("krylov_dimension=0", "is refused: `krylov_dimension` must be"),
        ("no_such=1", "is refused: .*no_such"),
    ],
)
def test_a_bad_variant_says_so_in_one_line(text, message):
    with pytest.raises(SystemExit, match=message) as error:
        settings.newton_variant(text)
    assert str(error.value).startswith(f"--newton={text}")
    assert "\n" not in str(error.value)


def test_lists_of_numbers():
    assert settings.positive_numbers("rates", ["1e-3", "2"]) == (0.001, 2.0)
    assert settings.positive_integers("sizes", ["1", "20"]) == (1, 20)


@pytest.mark.parametrize("values", [[], ["a"], ["1", "-2"], ["0"], ["inf"], ["nan"]])
def test_bad_numbers(values):
    with pytest.raises(SystemExit, match=r"--rates=.* must be positive numbers"):
        settings.positive_numbers("rates", values)


@pytest.mark.parametrize("values", [[], ["1.5"], ["-2"], ["0"], [""]])
def test_bad_integers(values):
    with pytest.raises(SystemExit, match=r"--sizes=.* must be integers >= 1"):
        settings.positive_integers("sizes", values)


def test_the_grid_of_hessianlearn_is_all_combinations():
    assert len(settings.hessianlearn_grid(None, None, None)) == 6
    grid = settings.hessianlearn_grid(["5"], ["0.1", "1"], ["line_search", "0.01"])
    assert grid == (
        (5, 0.1, "line_search"),
        (5, 0.1, "0.01"),
        (5, 1.0, "line_search"),
        (5, 1.0, "0.01"),
    )
    assert str(grid[3]) == "rank 5, damping 1, step 0.01"


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ((["0"], None, None), "ranks=0"),
        ((None, ["0"], None), "dampings=0"),
        ((None, None, ["line_search", "-1"]), "steps=-1"),
        ((None, None, []), "steps="),
    ],
)
def test_what_is_no_setting_of_hessianlearn_is_refused(values, flag):
    with pytest.raises(SystemExit, match=f"^--hessianlearn_{flag} must be "):
        settings.hessianlearn_grid(*values)
