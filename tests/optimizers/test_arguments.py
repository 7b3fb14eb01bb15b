import keras
import numpy as np
import pytest

import keras_sfn
from keras_sfn.newton import damping as damping_lib
from keras_sfn.newton import directions
from keras_sfn.optimizers import arguments

OPTIONS = {
    "damping": "search",
    "hvp_mode": "auto",
    "max_step_norm": None,
}


def test_what_is_not_taken_has_a_stand_in():
    options = arguments.complete(OPTIONS)
    assert options["krylov_dimension"] is None
    assert options["inner_steps"] == 1
    assert options["use_previous_step"] is False
    assert OPTIONS.items() <= options.items()


def test_settings_hold_the_method():
    options = arguments.complete(OPTIONS | {"damping": 0.5, "krylov_dimension": 7})
    settings = arguments.settings(options, directions.newton_direction, leave_saddles=False)
    assert settings.damping == damping_lib.FixedDamping(0.5)
    assert settings.krylov_dimension == 7
    assert settings.direction is directions.newton_direction
    assert not settings.leave_saddles


AUTO = {
    "krylov_dimension": "auto",
    "damping": "auto",
    "curvature_batch_size": "auto",
}


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        ({}, ("kronecker", "kronecker, loops", "krylov")),
        ({"krylov_dimension": 10}, ("krylov",)),
        ({"damping": 0.1, "curvature_batch_size": 9}, ("kronecker", "kronecker, loops", "krylov")),
    ],
)
def test_what_auto_leaves_open(given, kinds):
    assert arguments.kinds(arguments.complete(OPTIONS | AUTO | given)) == kinds


def test_what_auto_stands_for():
    options = arguments.complete(OPTIONS | AUTO)
    names = ("preconditioner", "krylov_dimension", "damping", "curvature_batch_size")

    def values(kind):
        resolved = arguments.resolved(options, kind)
        return tuple(resolved[name] for name in names)

    assert values("kronecker") == ("kronecker", 1, "adaptive", "auto")
    assert values("kronecker, loops") == ("kronecker", 3, "adaptive", "auto")
    assert values("krylov") == (None, 10, "search", None)


@pytest.mark.parametrize(
    ("damping", "policy"),
    [
        ("search", damping_lib.SearchDamping(arguments.DEFAULT_DAMPING_GRID)),
        ([1.0, 0.1], damping_lib.SearchDamping((1.0, 0.1))),
        ("adaptive", damping_lib.AdaptiveDamping()),
        (0.5, damping_lib.FixedDamping(0.5)),
    ],
)
def test_policies_of_damping(damping, policy):
    options = arguments.complete(OPTIONS | {"damping": damping})
    settings = arguments.settings(options, directions.saddle_free_direction, True)
    assert settings.damping == policy


def test_what_is_given_stays():
    given = {"damping": 0.5, "curvature_batch_size": 9}
    resolved = arguments.resolved(arguments.complete(OPTIONS | AUTO | given), "kronecker")
    assert given.items() <= resolved.items()


@pytest.mark.parametrize(
    ("wanted", "rows", "taken"),
    [("auto", 8000, 500), ("auto", 600, 256), ("auto", 100, 100), (30, 100, 30), (300, 100, 100)],
)
def test_rows_of_the_curvature(wanted, rows, taken):
    assert int(arguments.curvature_rows(wanted, rows)) == taken


@pytest.mark.parametrize(
    ("rows", "size"), [(1, 1), (255, 255), (256, 256), (257, 256), (1024, 256), (1027, 257)]
)
def test_parts_of_the_rows_are_together_all(rows, size):
    seen = set()
    for index in range(4):
        start, length = arguments.part_of_rows(index, 4, rows)
        assert int(length) == size
        assert 0 <= start <= rows - size
        seen |= set(range(int(start), int(start) + size))
    assert seen == set(range(rows))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("krylov_dimension", 0),
        ("krylov_dimension", "all"),
        ("curvature_batch_size", "half"),
        ("inner_steps", 0),
        ("curvature_batch_size", 0),
        ("micro_batch_size", 1.5),
        ("damping", np.array([0.1, 0.2])),
        ("max_step_norm", 0),
        ("seed", -1),
        ("use_previous_step", 1),
        ("reorthogonalize", None),
        ("hvp_mode", "fast"),
        ("jit_compile", "yes"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        arguments.complete(OPTIONS | {name: value})


def test_the_whole_hessian_is_not_for_xla_and_has_no_previous_step():
    options = {"krylov_dimension": None, "jit_compile": True}
    with pytest.raises(ValueError, match="`jit_compile` cannot be True with the whole Hessian"):
        arguments.complete(OPTIONS | options)
    whole = arguments.complete(OPTIONS | {"krylov_dimension": None, "use_previous_step": True})
    assert whole["use_previous_step"] is False


NAMES = {
    "damped_newton": keras_sfn.DampedNewton,
    "exact_saddle_free_newton": keras_sfn.ExactSaddleFreeNewton,
    "saddle_free_newton": keras_sfn.SaddleFreeNewton,
}


@pytest.mark.parametrize("name", NAMES)
def test_names_and_configurations_round_trip(name):
    optimizer = keras.optimizers.get(name)
    assert type(optimizer) is NAMES[name]
    assert optimizer.name == name
    changed = type(optimizer)(
        learning_rate=0.5, damping=0.1, max_step_norm=2.0, weight_decay=0.01, use_ema=True
    )
    again = keras.optimizers.deserialize(keras.optimizers.serialize(changed))
    assert type(again) is NAMES[name]
    assert again.get_config() == changed.get_config()


@pytest.mark.parametrize("name", NAMES)
def test_options_of_others_are_refused(name):
    with pytest.raises(ValueError, match="`momentum` is not an argument"):
        NAMES[name](momentum=0.9)
    with pytest.raises(ValueError, match="`clipnorm` is not supported"):
        NAMES[name](clipnorm=1.0)


def test_the_exact_method_has_no_krylov_space():
    with pytest.raises(ValueError, match="`krylov_dimension` is not an argument"):
        keras_sfn.ExactSaddleFreeNewton(krylov_dimension=3)
    assert keras_sfn.DampedNewton(krylov_dimension=None).get_config()["krylov_dimension"] is None
