import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.fit import computation, kinds
from tests.fit import models

L = keras.layers


def spec(rows=16, dtype="float32"):
    return tf.TensorSpec((rows, 6), dtype), tf.TensorSpec((rows, 2), dtype)


def parts(model, **options):
    return repr(kinds.of(model, computation.Batch(spec(**options))).parts)


@pytest.mark.parametrize("make", models.EQUAL)
@pytest.mark.parametrize("rows", [16, None])
def test_equal_models_are_of_one_kind(make, rows):
    first = parts(make(), rows=rows)
    # Names go on counting meanwhile.
    keras.Sequential([L.Dense(1), L.Dropout(0.5)])
    assert parts(make(), rows=rows) == first


def test_a_clone_is_of_the_kind_of_its_model():
    model = models.model_of()
    clone = keras.models.clone_model(model)
    clone.compile(models.ours(), "mse")
    assert parts(clone) == parts(model)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"hidden": {"activation": "sigmoid"}}),
        ({}, {"hidden": {"use_bias": False}}),
        ({}, {"loss": "mae"}),
        ({}, {"loss": keras.losses.Huber(0.5)}),
        ({"loss": keras.losses.Huber(0.5)}, {"loss": keras.losses.Huber(0.6)}),
        ({"loss_weights": [1.0]}, {"loss_weights": [2.0]}),
        ({}, {"metrics": ["mae"]}),
        ({"metrics": ["mae"]}, {"metrics": ["mse"]}),
        ({}, {"jit_compile": True}),
        ({}, {"rate": 0.2}),
        ({}, {"frozen": True}),
        (
            {"hidden": {"kernel_regularizer": keras.regularizers.L2(0.1)}},
            {"hidden": {"kernel_regularizer": keras.regularizers.L2(0.2)}},
        ),
        ({}, {"hidden": {"dtype": "mixed_bfloat16"}}),
        ({}, {"hidden": {"dtype": "float64"}}),
    ],
)
def test_models_that_differ_are_of_two_kinds(one, other):
    assert parts(models.model_of(**one)) != parts(models.model_of(**other))


@pytest.mark.parametrize(
    "make",
    [
        models.Scaled,
        models.Parts,
        models.reversed_by,
        lambda factor: L.Lambda(lambda x: factor * x),
    ],
)
def test_what_no_configuration_tells_is_seen(make):
    assert parts(models.model_of(make(2.0))) == parts(models.model_of(make(2.0)))
    assert parts(models.model_of(make(2.0))) != parts(models.model_of(make(3.0)))


def test_limits_of_constraints_and_schedules_are_seen():
    def constrained(limit):
        return parts(models.model_of(hidden={"bias_constraint": models.NoMore(limit)}))

    def scheduled(by):
        return parts(models.model_of(optimizer=models.ours(learning_rate=models.Falling(by))))

    assert constrained(1.0) == constrained(1.0) != constrained(2.0)
    assert scheduled(1.0) == scheduled(1.0) != scheduled(2.0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"damping": "search"},
        {"seed": 1},
        {"weight_decay": 0.1},
        {"use_ema": True},
        {"krylov_dimension": 3},
        {"jit_compile": False},
        {"max_step_norm": 1.0},
        {"stochastic": False},
    ],
    ids=repr,
)
def test_arguments_of_the_optimizer_are_part_of_the_kind(arguments):
    known = parts(models.model_of())
    assert parts(models.model_of(optimizer=models.ours(**arguments))) != known
    assert parts(models.model_of(optimizer=models.ours(learning_rate=0.5))) == known


def test_what_the_weight_decay_leaves_out_is_part_of_the_kind():
    def decayed(*names):
        model = models.model_of(optimizer=models.ours(weight_decay=0.1))
        if names:
            model.optimizer.exclude_from_weight_decay(var_names=names)
        return parts(model)

    assert decayed("bias") == decayed("bias") != decayed()


def test_the_kind_of_the_next_steps_is_part_of_the_kind():
    several, one = models.model_of(), models.model_of()
    several.optimizer.expect_batches(5)
    assert parts(several) != parts(one)


def test_batches_of_another_form_are_of_another_kind():
    model = models.model_of()
    known = parts(model)
    assert parts(model, rows=8) != known
    assert parts(model, rows=None) != known
    weighed = computation.Batch((*spec(), tf.TensorSpec((16,), "float32")))
    assert repr(kinds.of(model, weighed).parts) != known


def test_which_variable_is_which_is_part_of_the_kind():
    def tied(same):
        x = keras.Input((6,))
        one, other = L.Dense(6), L.Dense(6)
        y = other(one(x)) if same else one(other(x))
        model = keras.Model(x, L.Dense(2)(y))
        model.compile(models.ours(), "mse")
        # Order of the layers, and of their variables, as they are called.
        return parts(model)

    assert tied(True) == tied(False)

    def twice(same):
        x = keras.Input((6,))
        one, other = L.Dense(6), L.Dense(6)
        y = one(x) + other(x) + (one(x) if same else other(x))
        model = keras.Model(x, L.Dense(2)(y))
        model.compile(models.ours(), "mse")
        return parts(model)

    assert twice(True) != twice(False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.model_of(steps_per_execution=2),
        lambda: models.model_of(run_eagerly=True),
        lambda: models.model_of(
            L.Lambda(lambda x: tf.ensure_shape(tf.numpy_function(np.tanh, [x], x.dtype), x.shape))
        ),
        lambda: models.model_of(Table()),
        lambda: models.model_of(optimizer=Own()),
    ],
)
def test_what_cannot_be_told_has_no_kind(make):
    with pytest.raises((computation.UnknownKindError, ValueError)):
        parts(make())


class Own(keras_sfn.SaddleFreeNewton):
    """May do anything."""


class Table(L.Layer):
    """Reads a variable that Keras knows nothing of."""

    def __init__(self):
        super().__init__()
        self._table = [tf.Variable(2.0)]

    def call(self, x):
        return x * self._table[0]


def test_a_model_with_its_own_train_step_has_no_kind():
    class WithTrainStep(keras.Sequential):
        def train_step(self, data):
            return super().train_step(data)

    model = WithTrainStep([keras.Input((6,)), L.Dense(2)])
    model.compile(models.ours(), "mse")
    with pytest.raises(computation.UnknownKindError, match="of its own"):
        parts(model)


def test_a_look_changes_nothing():
    model = models.model_of(metrics=["mae"])
    model.optimizer.build(model.trainable_variables)
    state = np.random.get_state()[1].copy()
    before = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    parts(model)
    after = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert all(np.all(v.numpy() == 0) for v in model.metrics_variables)
