"""Values that are not finite: rejected steps, one warning, an end."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.newton import step as step_lib
from keras_sfn.optimizers import failures

pytestmark = pytest.mark.slow


def data(rows=32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype("float32")
    return x, np.tanh(x @ rng.normal(size=(4, 2))).astype("float32")


def compiled(compile_options=None, most=failures.MOST_IN_A_ROW, **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(2),
        ]
    )
    defaults = {"krylov_dimension": 3, "jit_compile": False}
    optimizer = keras_sfn.SaddleFreeNewton(**(defaults | options))
    optimizer.max_consecutive_rejections = most
    model.compile(optimizer, "mse", **(compile_options or {}))
    return model


def strict(**options):
    """An optimizer that ends training after three failures in a row."""
    optimizer = keras_sfn.SaddleFreeNewton(**options)
    optimizer.max_consecutive_rejections = 3
    return optimizer


@pytest.fixture
def given():
    """The warnings of a test, as a list of texts, instead of errors or output."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda: [str(w.message) for w in caught if w.category is RuntimeWarning]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, 5),
        ({"run_eagerly": True}, 5),
        ({"jit_compile": True}, 5),
        # Looked at after each execution: of steps 1 and 2, 3 and 4, 5 and 6.
        ({"steps_per_execution": 2}, 6),
    ],
    ids=str,
)
def test_many_failures_in_a_row_end_training_with_one_warning(options, steps, given):
    model, (x, y) = compiled(options, most=5), data()
    before = [v.numpy() for v in model.variables]
    with pytest.raises(FloatingPointError, match=r"`max_consecutive_rejections`=5 .* \(the last"):
        model.fit(np.full_like(x, np.nan), y, batch_size=4, epochs=9, verbose=0)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert int(model.optimizer.rejected_steps) == steps
    assert len(given()) == 1
    assert "A step was rejected: loss not finite" in given()[0]


def test_single_bad_batches_never_end_it_and_are_told_of_once(given):
    model, (x, y) = compiled(most=2), data()
    x[5] = np.inf
    model.fit(x, y, batch_size=4, epochs=4, verbose=0, shuffle=False)
    assert int(model.optimizer.rejected_steps) >= 4
    assert model.optimizer.last_step.outcome == "accepted"
    assert len(given()) == 1
    assert np.isfinite(model.evaluate(x[8:], y[8:], verbose=0))


def test_without_a_limit_it_goes_on(given):
    model, (x, y) = compiled(most=None), data()
    model.fit(x * np.nan, y, batch_size=2, epochs=1, verbose=0)
    assert int(model.optimizer.rejected_steps) == 16
    assert len(given()) == 1


def test_the_default_is_ten(given):
    model, (x, y) = compiled(), data()
    with pytest.raises(FloatingPointError, match="`max_consecutive_rejections`=10"):
        model.fit(x * np.nan, y, batch_size=2, epochs=1, verbose=0)
    assert int(model.optimizer.rejected_steps) == 10


@pytest.mark.parametrize("damping", ["search", "adaptive"])
def test_steps_that_do_not_help_are_no_failures(damping, given):
    v = keras.Variable([1.0, 2.0])
    optimizer = strict(damping=damping, jit_compile=False)
    step = tf.function(lambda: optimizer.minimize(lambda: 1 + tf.reduce_sum(v.value**2), [v]))
    for _ in range(60):
        step()
    assert int(optimizer.rejected_steps) > 20
    assert optimizer.last_step.outcome == "no decrease"
    assert given() == []
    # So many rejections in a row do not carry the damping away: the next problem is solved.
    v.assign([3.0, 4.0])
    for _ in range(30):
        loss = step()
    assert float(loss) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("damping", ["search", "adaptive", 0.1])
def test_a_bad_batch_leaves_everything_the_next_steps_depend_on(damping, given):
    (x, y), model = data(), compiled(damping=damping)
    model.train_on_batch(x[:16], y[:16])
    kept = {"iteration", "rejected_steps", "failures", "learning_rate"}
    state = [*model.variables, *model.optimizer.variables]
    before = [v.numpy() for v in state]

    def after_a_good_batch():
        model.train_on_batch(x[16:], y[16:])
        return [v.numpy() for v in state if v.name not in kept]

    expected = after_a_good_batch()
    for variable, value in zip(state, before, strict=True):
        variable.assign(value)
    model.train_on_batch(x[:16] * np.nan, y[:16])
    assert int(model.optimizer.rejected_steps) == 1
    for got, wanted in zip(after_a_good_batch(), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_statistics_stay_where_the_loss_is_finite_and_its_gradient_is_not(given):
    class Root(keras.layers.Layer):
        def build(self, shape):
            self.offset = self.add_weight(shape=(), initializer="zeros")
            self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            self.seen.assign(keras.ops.mean(x))
            return keras.ops.sqrt(x * self.offset)  # an infinite slope at offset 0

    model = keras.Sequential([keras.Input((1,)), Root()])
    model.compile(keras_sfn.SaddleFreeNewton(jit_compile=False), "mse")
    model.train_on_batch(np.ones((4, 1)), np.ones((4, 1)))
    assert model.optimizer.last_step.outcome == "gradient not finite"
    assert float(model.layers[0].seen.numpy()) == 0
    assert float(model.layers[0].offset.numpy()) == 0


def test_statistics_that_overflow_alone_are_left_out():
    class Squares(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(), initializer="ones")
            self.seen = self.add_weight(shape=(), initializer="ones", trainable=False)
            self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            self.seen.assign(keras.ops.mean(x**2))
            self.steps.assign_add(1)
            return x * 1e-20 * self.scale

    model = keras.Sequential([keras.Input((1,)), Squares()])
    model.compile(keras_sfn.SaddleFreeNewton(jit_compile=False), "mse")
    model.train_on_batch(np.full((4, 1), 1e20), np.zeros((4, 1)))
    assert model.optimizer.last_step.outcome == "accepted"
    assert float(model.layers[0].seen.numpy()) == 1
    assert float(model.layers[0].steps.numpy()) == 1


def loop(optimizer, v, **options):
    @tf.function(**options)
    def step(factor):
        return optimizer.minimize(lambda: tf.reduce_sum(v**2) * factor, [v])

    return step


def test_a_hand_written_loop_in_eager_code(given):
    v, optimizer = keras.Variable([1.0]), strict()
    step = lambda: optimizer.minimize(lambda: tf.reduce_sum(v.value**2) * np.nan, [v])
    step()
    step()
    with pytest.raises(FloatingPointError, match="`max_consecutive_rejections`=3"):
        step()
    assert len(given()) == 1


def test_a_hand_written_loop_in_a_graph(given):
    v, optimizer = keras.Variable([1.0]), strict()
    step = loop(optimizer, v)
    for _ in range(2):
        step(tf.constant(np.nan))
    # A good one starts the count anew.
    step(tf.constant(1.0))
    v.assign([1.0])
    for _ in range(2):
        step(tf.constant(np.nan))
    with pytest.raises(tf.errors.InvalidArgumentError, match="`max_consecutive_rejections`=3"):
        step(tf.constant(np.nan))
    np.testing.assert_array_equal(v.numpy(), [1])


def test_a_loop_that_xla_compiles_can_ask(given):
    v, optimizer = keras.Variable([1.0]), strict()
    optimizer.raise_if_failing()  # before there is anything to fail
    step = loop(optimizer, v, jit_compile=True)
    for _ in range(4):
        assert np.isnan(step(tf.constant(np.nan)))
    with pytest.raises(FloatingPointError, match="`max_consecutive_rejections`=3"):
        optimizer.raise_if_failing()


def test_an_own_train_step_ends_in_the_same_way(given):
    class Custom(keras.Sequential):
        def train_step(self, batch):
            x, y = batch
            loss_fn = lambda: self.compute_loss(x, y, self(x, training=True))
            return {"objective": self.optimizer.minimize(loss_fn, self.trainable_variables)}

    model, (x, y) = Custom([keras.Input((4,)), keras.layers.Dense(2)]), data()
    model.compile(strict(), "mse")
    with pytest.raises(FloatingPointError, match="`max_consecutive_rejections`=3"):
        model.fit(x * np.nan, y, batch_size=4, verbose=0)
    assert len(given()) == 1


def counted(outcome, promised, counts=(4, 2, 3, 7), loss=2.0):
    figures = {"outcome": outcome, "predicted_reduction": promised, "loss": loss}
    nothing = dict.fromkeys(step_lib.StepResult._fields)
    result = step_lib.StepResult(
        **nothing | {name: tf.constant(figure) for name, figure in figures.items()}
    )
    return failures.count(tf.constant(counts), result, tf.constant(2.0)).numpy().tolist()


@pytest.mark.parametrize(("outcome", "expected"), [(0, [4, 0, 3]), (1, [4, 0, 3]), (5, [5, 3, 5])])
def test_counts_of_all_and_of_those_in_a_row(outcome, expected):
    assert counted(outcome, 1.0)[:3] == expected


@pytest.mark.parametrize(
    ("outcome", "promised", "expected"),
    [(0, 1e-8, 8), (1, 1e-8, 8), (1, 0.0, 8), (0, 1e-6, 0), (5, 1e-8, 0)],
)
def test_steps_whose_promise_rounding_hides_are_counted(outcome, promised, expected):
    assert counted(outcome, promised)[3] == expected


def test_a_step_whose_loss_is_not_evaluated_promises_nothing():
    assert counted(0, -1.0, loss=float("nan"))[3] == 0


def test_reports(given):
    told = set()
    failures.warn_or_raise(np.array([0, 0, 0, 0]), 3, told)
    assert not given()
    for _ in range(2):
        failures.warn_or_raise(np.array([1, 0, 4, 0]), 3, told)
    assert ["product not finite" in text for text in given()] == [True]
    with pytest.raises(FloatingPointError, match=r"Received: 3 \(the last: product not finite\)"):
        failures.warn_or_raise(np.array([3, 3, 4, 0]), 3, told)
    failures.warn_or_raise(np.array([30, 30, 4, 0]), None, told)
    failures.warn_or_raise(np.array([30, 0, 4, 99]), None, told)
    assert len(given()) == 1
    for _ in range(2):
        failures.warn_or_raise(np.array([30, 0, 4, 100]), None, told)
    assert ["less than its rounding" in text for text in given()] == [False, True]


def test_training_at_a_minimum_tells_once_that_nothing_is_left(given):
    # Noise that no model explains: the loss stays far above zero.
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 3)), 1e3 * rng.normal(size=(64, 1))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras_sfn.SaddleFreeNewton(jit_compile=False), "mse")
    model.fit(x, y, batch_size=64, epochs=130, verbose=0)
    assert ["less than its rounding" in text for text in given()] == [True]
