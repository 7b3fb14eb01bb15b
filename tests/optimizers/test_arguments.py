import copy
import pickle
import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.newton import damping as damping_lib
from keras_sfn.newton import directions, effort
from keras_sfn.objective import parameter_space, traced
from keras_sfn.optimizers import arguments, memory
from tests import strategies

METHOD = arguments.Method(directions.saddle_free_direction, leave_saddles=True)
OPTIONS = {
    "damping": "search",
    "hvp_mode": "auto",
    "max_step_norm": None,
}
AUTO = OPTIONS | {
    "krylov_dimension": "auto",
    "damping": "auto",
    "curvature_batch_size": "auto",
    "use_previous_step": True,
}
OF_ROWS = traced.Traced(None, frozenset(), None, (), cut=("logits:0",))
WITH_LOOPS = OF_ROWS._replace(ops=frozenset({"While"}))
OF_PARAMETERS = OF_ROWS._replace(cut=())


def auto(**options):
    return arguments.Arguments(AUTO | options, METHOD)


def test_what_is_not_taken_has_a_stand_in():
    values = arguments.Arguments(OPTIONS, METHOD).values
    assert values["krylov_dimension"] is None
    assert values["inner_steps"] == 1
    assert values["use_previous_step"] is False
    assert OPTIONS.items() <= values.items()


def test_settings_hold_the_method():
    method = arguments.Method(directions.newton_direction, leave_saddles=False)
    given = OPTIONS | {"damping": 0.5, "krylov_dimension": 7}
    settings = arguments.Arguments(given, method).settings
    assert settings.damping == damping_lib.FixedDamping(0.5)
    assert settings.direction is directions.newton_direction
    assert not settings.leave_saddles


@pytest.mark.parametrize(
    ("seen", "divisible", "kind", "values"),
    [
        (OF_ROWS, True, "PRECONDITIONED", ("kronecker", None, "adaptive", "auto")),
        (OF_ROWS, False, "PRECONDITIONED_ALL_ROWS", ("kronecker", None, "adaptive", None)),
        (WITH_LOOPS, False, "PRECONDITIONED_LOOPS", ("kronecker", None, "adaptive", "auto")),
        (OF_PARAMETERS, True, "KRYLOV", (None, 10, "search", None)),
    ],
)
def test_the_first_loss_decides(seen, divisible, kind, values):
    chosen = auto()
    assert chosen.may_be_preconditioned
    assert chosen.in_use["krylov_dimension"] is None
    chosen.decide(seen, divisible)
    assert chosen.kind is arguments.StepKind[kind]
    names = ("preconditioner", "krylov_dimension", "damping", "curvature_batch_size")
    assert tuple(chosen.in_use[name] for name in names) == values
    # Once and for all: state and trace belong to it.
    chosen.decide(OF_ROWS, divisible=True)
    assert chosen.kind is arguments.StepKind[kind]


@pytest.mark.parametrize(("dimension", "kind"), [(4, "KRYLOV"), (None, "WHOLE")])
def test_what_is_given_is_not_asked_about(dimension, kind):
    chosen = auto(krylov_dimension=dimension)
    assert not chosen.may_be_preconditioned
    chosen.decide(OF_ROWS, divisible=True)
    assert chosen.kind is arguments.StepKind[kind]
    assert chosen.in_use["krylov_dimension"] == dimension
    assert chosen.in_use["damping"] == "search"
    assert chosen.in_use["preconditioner"] is None


def test_the_kind_is_described_with_what_stood_in_the_way():
    chosen = auto()
    chosen.decide(OF_ROWS, divisible=True)
    expected = "preconditioned directions (1 to 8), curvature of a sixteenth of the rows to all"
    assert chosen.describe(None, 1000) == expected
    chosen = auto()
    chosen.decide(OF_ROWS, divisible=False)
    assert chosen.describe("why", 1000) == (
        "preconditioned directions on all rows (1 to 8), curvature of all rows (why)"
    )
    chosen = auto()
    chosen.decide(OF_PARAMETERS, divisible=False)
    assert "(10), curvature of all rows; not preconditioned: the loss is a" in chosen.describe(
        "", 1000
    )
    chosen = auto()
    chosen.decide(OF_ROWS._replace(error=AttributeError("no `numpy`")), divisible=False)
    assert "cannot be traced into a graph (no `numpy`)" in chosen.describe("", 1000)
    plain = auto(krylov_dimension=4, curvature_batch_size=9).describe(None, 1000)
    assert plain.startswith("Lanczos vectors (4), curvature of 9 rows; not preconditioned")
    assert (
        auto(krylov_dimension=None).describe(None, 1000).startswith("the whole Hessian, curvature")
    )


def test_under_a_strategy_steps_are_those_of_one_device():
    chosen = auto()
    with strategies.mirrored(1).scope():
        chosen.decide(OF_ROWS, divisible=True)
    assert chosen.kind is arguments.StepKind.PRECONDITIONED


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
    assert arguments.Arguments(OPTIONS | {"damping": damping}, METHOD).settings.damping == policy


def test_what_is_given_stays():
    given = {"damping": 0.5, "curvature_batch_size": 9}
    assert given.items() <= auto(**given).in_use.items()


def test_rows_of_the_curvature():
    assert auto().curvature_rows(divisible=True) == "auto"
    assert auto().curvature_rows(divisible=False) is None
    assert auto(curvature_batch_size=9).curvature_rows(divisible=True) == 9
    assert auto(krylov_dimension=4).curvature_rows(divisible=True) is None
    plain = auto(krylov_dimension=4, curvature_batch_size=9)
    assert plain.curvature_rows(divisible=True) == 9
    decided = auto()
    decided.decide(OF_PARAMETERS, divisible=True)
    assert decided.curvature_rows(divisible=True) is None


@pytest.mark.parametrize(
    ("given", "divisible", "sampled"),
    [("auto", True, True), (9, True, True), (None, True, False), ("auto", False, False)],
)
def test_samples_are_of_parts_where_these_may_be_taken_for_all(given, divisible, sampled):
    assert auto(curvature_batch_size=given).parts_may_be_sampled(divisible) == sampled


def test_the_largest_dimension_is_that_of_any_open_kind():
    assert auto().largest_dimension(100) == 11
    assert auto().dimension(100) == 9
    assert auto(preconditioned_directions=3).dimension(100) == 4
    assert auto(use_previous_step=False).largest_dimension(100) == 10
    assert auto(krylov_dimension=4).largest_dimension(100) == 5
    assert auto().largest_dimension(3) == 3
    assert auto(krylov_dimension=None).largest_dimension(7) == 7


def test_memory_is_that_of_the_kind_in_use(monkeypatch):
    space = parameter_space.ParameterSpace([keras.Variable(np.zeros(100), dtype="float32")])
    monkeypatch.setattr(memory, "device_memory", lambda: (18 * 400, "machine"))
    auto(preconditioned_directions=1).refuse_too_large(space, 0)
    with pytest.raises(MemoryError, match="n = 100 parameters with a basis of k = 11"):
        auto(krylov_dimension=10).refuse_too_large(space, 0)
    with pytest.raises(MemoryError, match="2000 numbers of the preconditioner"):
        auto().refuse_too_large(space, 2000)
    with pytest.raises(MemoryError, match="the whole Hessian of n = 100"):
        auto(krylov_dimension=None).refuse_too_large(space, 0)


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
        ("preconditioned_directions", 0),
        ("preconditioned_directions", None),
        ("seed", -1),
        ("use_previous_step", 1),
        ("reorthogonalize", None),
        ("hvp_mode", "fast"),
        ("jit_compile", "yes"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        arguments.Arguments(OPTIONS | {name: value}, METHOD)


@pytest.mark.parametrize("dimension", [4, None])
def test_two_numbers_of_directions_contradict_each_other(dimension):
    with pytest.raises(
        ValueError, match='`preconditioned_directions` needs krylov_dimension="auto"'
    ):
        auto(krylov_dimension=dimension, preconditioned_directions=2)


@pytest.mark.parametrize(
    ("options", "seen", "divisible", "levels", "first"),
    [
        ({}, OF_ROWS, True, [(1, 16), (2, 4), (4, 1), (8, 1)], 0),
        ({}, WITH_LOOPS, True, [(3, 16), (3, 4), (4, 1), (8, 1)], 0),
        ({}, OF_ROWS, False, [(1, 1), (2, 1), (4, 1), (8, 1)], 2),
        ({"curvature_batch_size": None}, OF_ROWS, True, [(1, 1), (2, 1), (4, 1), (8, 1)], 2),
        ({"curvature_batch_size": 9}, OF_ROWS, True, [(1, 1), (2, 1), (4, 1), (8, 1)], 0),
        ({"preconditioned_directions": 3}, OF_ROWS, True, [(3, 16), (3, 4), (3, 1)], 0),
        ({"preconditioned_directions": 3}, OF_ROWS, False, [(3, 1)], 0),
    ],
)
def test_numbers_that_are_given_are_fixed(options, seen, divisible, levels, first):
    chosen = auto(**options)
    chosen.decide(seen, divisible)
    if not divisible:
        chosen = auto(**options | {"curvature_batch_size": None})
        chosen.decide(seen, divisible)
    ladder = chosen.ladder(1000)
    assert [tuple(level) for level in ladder.levels] == levels
    assert int(ladder.chosen(tf.constant(effort.INITIAL))) == first


def test_the_rows_of_a_subspace_do_not_fill_memory():
    directions = [
        [level.directions for level in auto().ladder(size).levels] for size in (2, 3 * 10**7, 10**9)
    ]
    assert directions == [[1, 2, 2], [1, 2, 3], [1, 1, 1]]


def test_the_whole_hessian_is_not_for_xla_and_has_no_previous_step():
    with pytest.raises(ValueError, match="`jit_compile` cannot be True with the whole Hessian"):
        auto(krylov_dimension=None, jit_compile=True)
    assert auto(krylov_dimension=None).values["use_previous_step"] is False


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


CHANGED = {"learning_rate": 0.5, "damping": 0.1, "max_step_norm": 2.0, "weight_decay": 0.01}
COPIES = {
    "the constructor": lambda one: type(one)(**one.get_config()),
    "from_config": lambda one: type(one).from_config(one.get_config()),
    "serialize": lambda one: keras.optimizers.deserialize(keras.optimizers.serialize(one)),
    "deepcopy": copy.deepcopy,
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", COPIES)
def test_every_way_to_copy_an_optimizer_that_works_with_adam(way, name):
    optimizer = NAMES[name](**CHANGED)
    optimizer.max_consecutive_rejections = 3
    again = COPIES[way](optimizer)
    assert again is not optimizer
    assert again.get_config() == optimizer.get_config()
    assert again.max_consecutive_rejections == 3


@pytest.mark.parametrize("optimizer", NAMES.values())
def test_names_of_classes_are_known_as_those_of_keras(optimizer):
    name = optimizer.__name__
    for spelling in (name, name.lower()):
        assert type(keras.optimizers.get(spelling)) is optimizer


@pytest.mark.parametrize("optimizer", NAMES.values())
@pytest.mark.parametrize("rate", [1e-3, 0.0099])
def test_the_learning_rate_of_adam_is_warned_of(optimizer, rate):
    with pytest.warns(UserWarning, match=r"factor on the whole step, not the rate of Adam") as seen:
        optimizer(rate)
    assert [warning.filename for warning in seen] == [__file__]


def lowered_by_a_callback():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras_sfn.SaddleFreeNewton(), "mse")
    callback = keras.callbacks.ReduceLROnPlateau(factor=1e-3, patience=0, min_delta=1e9)
    callback.set_model(model)
    for epoch in range(3):
        callback.on_epoch_end(epoch, {"val_loss": 1.0})
    return model.optimizer


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras_sfn.SaddleFreeNewton(0.01),
        lambda: keras_sfn.SaddleFreeNewton(1),
        lambda: keras_sfn.SaddleFreeNewton(0.0),
        lambda: keras_sfn.SaddleFreeNewton(keras.optimizers.schedules.CosineDecay(1e-3, 10)),
        lambda: keras_sfn.SaddleFreeNewton(lambda: 1e-3),
        lowered_by_a_callback,
        lambda: keras_sfn.SaddleFreeNewton.from_config(lowered_by_a_callback().get_config()),
    ],
)
def test_other_learning_rates_are_not(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        optimizer = make()
    if isinstance(optimizer._learning_rate, keras.Variable):
        assert optimizer.get_config()["learning_rate"] == float(optimizer.learning_rate)


@pytest.mark.parametrize(
    ("arguments_", "rule"),
    [
        ({"krylov_dimension": "10"}, 'an integer >= 1, "auto" or None. Received: krylov_dim'),
        ({"krylov_dimension": 2.5}, 'an integer >= 1, "auto" or None. Received: krylov_dim'),
        ({"curvature_batch_size": "all"}, 'an integer >= 1, "auto" or None. Received: curva'),
        ({"damping": "levenberg"}, '"auto", "search", "adaptive", a finite number >= 0 or a list'),
        ({"hvp_mode": "fast"}, "'auto'"),
        ({"jit_compile": "yes"}, "'auto'"),
    ],
)
def test_an_error_names_all_that_is_taken(arguments_, rule):
    with pytest.raises(ValueError, match=re.escape(rule)):
        keras_sfn.SaddleFreeNewton(**arguments_)


@pytest.mark.parametrize("optimizer", [keras_sfn.SaddleFreeNewton, keras_sfn.DampedNewton])
def test_all_values_of_the_krylov_dimension_are_documented(optimizer):
    text = optimizer.__doc__.split("krylov_dimension:")[1].split("damping:")[0]
    for value in (3, "auto", None):
        assert optimizer(krylov_dimension=value).krylov_dimension == value
    assert "Integer >= 1" in text
    assert '`"auto"`' in text
    assert "None" in text
