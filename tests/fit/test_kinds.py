import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.fit import computation, kinds

L = keras.layers


def spec(rows=16, dtype="float32"):
    return tf.TensorSpec((rows, 6), dtype), tf.TensorSpec((rows, 2), dtype)


def ours(**arguments):
    return keras_sfn.SaddleFreeNewton(**arguments)


class Scaled(L.Layer):
    """Has a constant that no configuration tells of."""

    def __init__(self, scale):
        super().__init__()
        self._scale = scale

    def call(self, x):
        return x * self._scale


class Parts(L.Layer):
    """Does another thing for few rows, of which the whole batch shows nothing."""

    def __init__(self, few):
        super().__init__()
        self._few = few

    def call(self, x):
        return self._few * x if (x.shape[0] or 16) < 10 else x


class NoMore(keras.constraints.Constraint):
    """Has a limit that its configuration does not tell."""

    def __init__(self, limit):
        self._limit = limit

    def __call__(self, value):
        return keras.ops.minimum(value, self._limit)


class Falling(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, by):
        self._by = by

    def __call__(self, step):
        return 1 / (1 + self._by * keras.ops.cast(step, "float32"))

    def get_config(self):
        return {}


def reversed_by(factor):
    @tf.custom_gradient
    def function(x):
        return tf.identity(x), lambda upstream: -factor * upstream

    return L.Lambda(function)


def model_of(*layers, optimizer=None, loss="mse", hidden=None, rate=0.1, frozen=False, **options):
    made = [
        L.Dense(4, **({"activation": "tanh"} | (hidden or {}))),
        L.BatchNormalization(),
        L.Dropout(rate),
        *layers,
        L.Dense(2),
    ]
    made[0].trainable = not frozen
    model = keras.Sequential([keras.Input((6,)), *made])
    model.compile(optimizer or ours(), loss, **options)
    return model


def parts(model, **options):
    return repr(kinds.of(model, computation.Batch(spec(**options))).parts)


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.last = L.LSTM(3), L.Dense(2)

    def call(self, x, training=False):
        return self.last(self.first(x[:, None]))


def shared_layer():
    x = keras.Input((6,))
    layer = L.Dense(6, activation="silu", kernel_regularizer="l2")
    return compiled(keras.Model(x, L.Dense(2)(L.LayerNormalization()(layer(layer(x))))))


def compiled(model):
    model.compile(ours(), keras.losses.Huber(), metrics=["mae"])
    return model


def convolutional():
    return compiled(
        keras.Sequential(
            [
                keras.Input((6,)),
                L.Reshape((3, 2, 1)),
                L.GaussianNoise(0.1),
                L.Conv2D(2, 2, padding="same", activation="relu"),
                L.MaxPooling2D(2, padding="same"),
                L.Flatten(),
                L.Dense(2, kernel_constraint="max_norm"),
            ]
        )
    )


def attentive():
    x = keras.Input((6,))
    tokens = L.Reshape((3, 2))(x)
    tokens = L.MultiHeadAttention(2, 2, dropout=0.1)(tokens, tokens)
    return compiled(keras.Model(x, L.Dense(2, activation="softmax")(L.Flatten()(tokens))))


@pytest.mark.parametrize(
    "make",
    [
        lambda: model_of(optimizer=ours(learning_rate=Falling(0.1)), metrics=["mae"]),
        lambda: model_of(Scaled(2.0), reversed_by(1.0), hidden={"kernel_constraint": NoMore(1.0)}),
        lambda: compiled(Subclass()),
        shared_layer,
        convolutional,
        attentive,
    ],
)
@pytest.mark.parametrize("rows", [16, None])
def test_equal_models_are_of_one_kind(make, rows):
    first = parts(make(), rows=rows)
    # Names go on counting meanwhile.
    keras.Sequential([L.Dense(1), L.Dropout(0.5)])
    assert parts(make(), rows=rows) == first


def test_a_clone_is_of_the_kind_of_its_model():
    model = model_of()
    clone = keras.models.clone_model(model)
    clone.compile(ours(), "mse")
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
    ids=repr,
)
def test_models_that_differ_are_of_two_kinds(one, other):
    assert parts(model_of(**one)) != parts(model_of(**other))


@pytest.mark.parametrize(
    "make", [Scaled, Parts, reversed_by, lambda factor: L.Lambda(lambda x: factor * x)]
)
def test_what_no_configuration_tells_is_seen(make):
    assert parts(model_of(make(2.0))) == parts(model_of(make(2.0)))
    assert parts(model_of(make(2.0))) != parts(model_of(make(3.0)))


def test_limits_of_constraints_and_schedules_are_seen():
    def constrained(limit):
        return parts(model_of(hidden={"bias_constraint": NoMore(limit)}))

    def scheduled(by):
        return parts(model_of(optimizer=ours(learning_rate=Falling(by))))

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
    known = parts(model_of())
    assert parts(model_of(optimizer=ours(**arguments))) != known
    assert parts(model_of(optimizer=ours(learning_rate=0.5))) == known


def test_what_the_weight_decay_leaves_out_is_part_of_the_kind():
    def decayed(*names):
        model = model_of(optimizer=ours(weight_decay=0.1))
        if names:
            model.optimizer.exclude_from_weight_decay(var_names=names)
        return parts(model)

    assert decayed("bias") == decayed("bias") != decayed()


def test_the_kind_of_the_next_steps_is_part_of_the_kind():
    several, one = model_of(), model_of()
    several.optimizer.expect_batches(5)
    assert parts(several) != parts(one)


def test_batches_of_another_form_are_of_another_kind():
    model = model_of()
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
        model.compile(ours(), "mse")
        # Order of the layers, and of their variables, as they are called.
        return parts(model)

    assert tied(True) == tied(False)

    def twice(same):
        x = keras.Input((6,))
        one, other = L.Dense(6), L.Dense(6)
        y = one(x) + other(x) + (one(x) if same else other(x))
        model = keras.Model(x, L.Dense(2)(y))
        model.compile(ours(), "mse")
        return parts(model)

    assert twice(True) != twice(False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: model_of(steps_per_execution=2),
        lambda: model_of(run_eagerly=True),
        lambda: model_of(L.Lambda(lambda x: tf.numpy_function(np.tanh, [x], x.dtype))),
        lambda: model_of(Table()),
        lambda: model_of(optimizer=Own()),
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
    model.compile(ours(), "mse")
    with pytest.raises(computation.UnknownKindError, match="of its own"):
        parts(model)


def test_a_look_changes_nothing():
    model = model_of(metrics=["mae"])
    model.optimizer.build(model.trainable_variables)
    state = np.random.get_state()[1].copy()
    before = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    parts(model)
    after = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert all(np.all(v.numpy() == 0) for v in model.metrics_variables)
