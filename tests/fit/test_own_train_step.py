"""A model's own `train_step`, with gradients by a tape and `apply`, trains unchanged."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from tests import strategies

ops = keras.ops


def ours(**options):
    return keras_sfn.SaddleFreeNewton(**({"krylov_dimension": 6, "jit_compile": False} | options))


def data(rows=32, inputs=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, inputs)).astype("float32")
    return x, np.tanh(x @ rng.normal(size=(inputs, 2))).astype("float32")


class Net(keras.Model):
    """Dropout, moving statistics and a tracker of its own, in two layers."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(5, activation="tanh")
        self.normal = keras.layers.BatchNormalization()
        self.dropout = keras.layers.Dropout(0.3, seed=7)
        self.out = keras.layers.Dense(2)
        self.tracker = keras.metrics.Mean(name="objective")

    def call(self, x, training=False):
        return self.out(self.dropout(self.normal(self.hidden(x)), training=training))

    @property
    def metrics(self):
        return [self.tracker]

    def loss_of(self, batch):
        x, y = batch
        return ops.mean((self(x, training=True) - y) ** 2) + 0.01 * ops.sum(self.out.kernel**2)


class Tape(Net):
    """As people write it."""

    def train_step(self, batch):
        with tf.GradientTape() as tape:
            loss = self.loss_of(batch)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.tracker.update_state(loss)
        return {"objective": self.tracker.result(), "twice": 2 * loss}


class Minimize(Net):
    """The same by hand."""

    def train_step(self, batch):
        loss = self.optimizer.minimize(lambda: self.loss_of(batch), self.trainable_variables)
        self.tracker.update_state(loss)
        return {"objective": self.tracker.result(), "twice": 2 * loss}


def fitted(make, optimizer=ours, epochs=3, batch_size=32, rows=32, built=True, **options):
    keras.utils.set_random_seed(3)
    model, batch = make(), data(rows)
    if built:
        model(batch[0])
    model.compile(optimizer(), **options)
    fit = {"batch_size": batch_size, "epochs": epochs, "shuffle": False, "verbose": 0}
    return model, model.fit(*batch, **fit).history


def same(one, other):
    assert len(one.variables) == len(other.variables)
    for mine, theirs in zip(one.variables, other.variables, strict=True):
        if mine.dtype != "string":
            np.testing.assert_allclose(
                mine.numpy(), theirs.numpy(), rtol=2e-3, atol=1e-5, err_msg=mine.path
            )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"built": False},
        pytest.param({"run_eagerly": True, "epochs": 2}, marks=pytest.mark.slow),
        pytest.param({"steps_per_execution": 2, "batch_size": 16}, marks=pytest.mark.slow),
        pytest.param({"rows": 40}, marks=pytest.mark.slow),  # A last batch of another size.
    ],
    ids=str,
)
def test_it_takes_the_steps_of_minimize(options):
    tape, losses = fitted(Tape, **options)
    by_hand, expected = fitted(Minimize, **(options | {"built": True}))
    assert set(losses) == {"objective", "twice"}
    for name, values in expected.items():
        np.testing.assert_allclose(losses[name], values, rtol=2e-3, err_msg=name)
    # Weights, moving statistics, seeds, trackers: all have moved once a step.
    same(tape, by_hand)
    assert int(tape.optimizer.iterations) == int(by_hand.optimizer.iterations)
    assert losses["objective"][-1] < losses["objective"][0]


class Scalars(keras.Model):
    """Two numbers, whose losses Newton's method solves in one step; `step` is the train step."""

    def __init__(self, step, a=0.0, b=0.0):
        super().__init__()
        self.a = self.add_weight(shape=(), initializer=keras.initializers.Constant(a), name="a")
        self.b = self.add_weight(shape=(), initializer=keras.initializers.Constant(b), name="b")
        self.teacher = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.built, self._step = True, step

    def call(self, x):
        return x + self.a + self.b

    def train_step(self, batch):
        return self._step(self, batch)


def newton(**options):
    return ours(damping=0.0, use_previous_step=False, krylov_dimension=1, **options)


def one_step(step, optimizers, eager=True, batch=None, **start):
    """Takes one step with optimizers as attributes `optimizer`, `other`; returns model and logs."""
    model = Scalars(step, **start)
    model.compile(optimizers[0], run_eagerly=eager)
    if len(optimizers) > 1:
        model.other = optimizers[1]
    batch = np.ones((4, 1), "float32") if batch is None else batch
    history = model.fit(batch, batch_size=4, shuffle=False, verbose=0).history
    return model, {name: values[0] for name, values in history.items()}


def in_turn(model, batch):
    """First a towards b + 1, then b towards the new a."""
    with tf.GradientTape() as tape:
        first = (model.a - model.b - 1.0) ** 2
    model.optimizer.apply(tape.gradient(first, [model.a]), [model.a])
    with tf.GradientTape() as tape:
        second = (model.b - model.a) ** 2
    model.other.apply(tape.gradient(second, [model.b]), [model.b])
    model.teacher.assign(10 * model.a + model.b)
    return {"first": first, "second": second, "a": ops.convert_to_tensor(model.a)}


def at_once(model, batch):
    """Both gradients before both steps, by one persistent tape."""
    with tf.GradientTape(persistent=True) as tape:
        first = (model.a - model.b - 1.0) ** 2
        second = (model.b - model.a + 2.0) ** 2
    gradients = tape.gradient(first, [model.a]), tape.gradient(second, [model.b])
    model.optimizer.apply(gradients[0], [model.a])
    model.other.apply(gradients[1], [model.b])
    model.teacher.assign(10 * model.a + model.b)
    return {"first": first, "second": second, "a": ops.convert_to_tensor(model.a)}


def sgd():
    return keras.optimizers.SGD(0.25)  # Half of Newton's step on a square.


@pytest.mark.parametrize(
    ("step", "optimizers", "expected"),
    [
        (in_turn, (newton, newton), {"a": 1.0, "b": 1.0, "first": 1.0, "second": 1.0}),
        (in_turn, (newton, sgd), {"a": 1.0, "b": 0.5, "first": 1.0, "second": 1.0}),
        (in_turn, (sgd, newton), {"a": 0.5, "b": 0.5, "first": 1.0, "second": 0.25}),
        (at_once, (newton, newton), {"a": 1.0, "b": -2.0, "first": 1.0, "second": 4.0}),
        (at_once, (sgd, newton), {"a": 0.5, "b": -2.0, "first": 1.0, "second": 4.0}),
    ],
)
def test_several_optimizers_step_in_the_order_of_their_calls(step, optimizers, expected):
    model, logs = one_step(step, [optimizer() for optimizer in optimizers])
    assert float(model.a) == pytest.approx(expected["a"], abs=1e-5)
    assert float(model.b) == pytest.approx(expected["b"], abs=1e-5)
    # Losses before the steps; what follows a step sees the new values.
    assert logs["first"] == pytest.approx(expected["first"], abs=1e-5)
    assert logs["second"] == pytest.approx(expected["second"], abs=1e-5)
    assert logs["a"] == pytest.approx(expected["a"], abs=1e-5)
    assert float(model.teacher) == pytest.approx(10 * expected["a"] + expected["b"], abs=1e-4)
    for optimizer in (model.optimizer, model.other):
        assert int(optimizer.iterations) == 1


def test_several_optimizers_in_a_graph():
    model, logs = one_step(in_turn, [newton(), sgd()], eager=False)
    np.testing.assert_allclose([float(model.a), float(model.b)], [1, 0.5], atol=1e-5)
    assert logs["second"] == pytest.approx(1)


def test_an_optimizer_that_is_no_attribute_named_optimizer_is_found():
    def step(model, batch):
        with tf.GradientTape() as tape:
            loss = (model.a - 3.0) ** 2
        model.other.apply(tape.gradient(loss, [model.a]), [model.a])
        return {"loss_before": loss}

    model, _ = one_step(step, [None, newton()])
    assert float(model.a) == pytest.approx(3)


def test_one_optimizer_several_times_on_the_same_variables_with_clipped_weights():
    def step(model, batch):
        losses = {}
        for index in range(3):
            with tf.GradientTape() as tape:
                loss = (model.a - (index + 1.0)) ** 2 + 0.5 * model.a
            model.optimizer.apply(tape.gradient(loss, [model.a]), [model.a])
            losses[f"loss_{index}"] = loss
            model.a.assign(ops.clip(model.a, -10.0, 1.25))
        return losses

    model, logs = one_step(step, [newton()])
    # Minima at 0.75, 1.75 and 2.75, of which the clip leaves 1.25.
    expected = [1.0, (0.75 - 2) ** 2 + 0.375, (1.25 - 3) ** 2 + 0.625]
    np.testing.assert_allclose([logs[f"loss_{i}"] for i in range(3)], expected, rtol=1e-4)
    assert float(model.a) == pytest.approx(1.25)
    assert int(model.optimizer.iterations) == 3


def penalised(model, batch):
    """A term of the loss is the derivative by the inputs, as gradient penalties are."""
    (x,) = batch if isinstance(batch, tuple) else (batch,)
    with tf.GradientTape() as tape:
        with tf.GradientTape() as inner:
            inner.watch(x)
            out = model.a * x**2
        slope = inner.gradient(out, x)
        loss = ops.mean((slope - 3.0) ** 2)
    model.optimizer.apply(tape.gradient(loss, [model.a]), [model.a])
    return {"loss_before": loss}


def unwatched(model, batch):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(model.a.value)
        loss = (model.a - 1.5) ** 2
    model.optimizer.apply(tape.gradient(loss, [model.a]), [model.a])
    return {"loss_before": loss}


def lists_and_unconnected(model, batch):
    with tf.GradientTape() as tape:
        losses = [0.5 * (model.a - 1.0) ** 2, 0.5 * (model.a - 2.0) ** 2]
    variables = [model.a, model.b]
    model.optimizer.apply_gradients(zip(tape.gradient(losses, variables), variables, strict=True))
    return {"loss_before": tf.add_n(losses)}


def weighed(model, batch):
    with tf.GradientTape() as tape:
        parts = ops.stack([(model.a - 1.0) ** 2, (model.a - 2.0) ** 2])
    gradients = tape.gradient(parts, [model.a], output_gradients=tf.constant([0.5, 0.5]))
    model.optimizer.apply(gradients, [model.a])
    return {"loss_before": ops.mean(parts)}


@pytest.mark.parametrize(
    ("step", "loss"),
    [(penalised, 9.0), (unwatched, 2.25), (lists_and_unconnected, 2.5), (weighed, 2.5)],
)
def test_ways_to_take_a_gradient(step, loss):
    model, logs = one_step(step, [newton()])
    assert float(model.a) == pytest.approx(1.5, abs=1e-5)
    assert logs["loss_before"] == pytest.approx(loss)


def with_gradients(change):
    def step(model, batch):
        with tf.GradientTape(persistent=True) as tape:
            loss, other = (model.a - 1.0) ** 2 + (model.b - 1.0) ** 2, model.b**2
        variables = [model.a, model.b]
        gradients = tape.gradient(loss, variables)
        model.optimizer.apply(change(gradients, tape, other, variables), variables)
        return {"loss_before": loss, "norm": tf.linalg.global_norm(gradients)}

    return step


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g, *_: tf.clip_by_global_norm(g, 1.0)[0], "max_step_norm"),
        (lambda g, *_: [tf.clip_by_norm(one, 1.0) for one in g], "max_step_norm"),
        (lambda g, *_: [one / 2 for one in g], "scale the loss"),
        (lambda g, *_: [one + one for one in g], "in place of accumulation"),
        (lambda g, *_: g[::-1], "by another variable"),
        (lambda g, t, other, v: [g[0], t.gradient(other, v)[1]], "gradients of 2 losses"),
        (lambda g, *_: [None, None], "no gradients at all"),
    ],
)
@pytest.mark.parametrize("eager", [True, False])
def test_gradients_that_are_not_those_of_the_tape_are_refused(change, message, eager):
    with pytest.raises(ValueError, match=f"`apply` of saddle_free_newton needs.*{message}"):
        one_step(with_gradients(change), [newton()], eager)


@pytest.mark.parametrize("eager", [True, False])
def test_gradients_may_be_looked_at(eager):
    _, logs = one_step(with_gradients(lambda g, *_: g), [newton()], eager)
    assert logs["norm"] == pytest.approx(8**0.5)


def test_tapes_models_and_optimizers_of_other_threads_are_left_alone():
    found = []

    def elsewhere():
        v = keras.Variable([1.0, 2.0])
        with tf.GradientTape() as tape:
            loss = ops.sum(v**2)
        gradients = tape.gradient(loss, [v])
        sgd().apply(gradients, [v])
        with pytest.raises(ValueError, match="`apply` and `apply_gradients` work"):
            newton().apply(gradients, [v])
        found.append(v.numpy())

    def step(model, batch):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return unwatched(model, batch)

    model, _ = one_step(step, [newton()])
    assert float(model.a) == pytest.approx(1.5, abs=1e-5)
    assert len(found) > 2
    np.testing.assert_allclose(found, np.tile([0.5, 1.0], (len(found), 1)))


def test_afterwards_the_model_is_as_it_was():
    model, _ = one_step(unwatched, [newton()])
    assert "train_step" not in vars(model)
    with pytest.raises(ValueError, match=r"optimizer\.minimize\(loss_fn, variables\)"):
        model.train_step(tf.ones((4, 1)))
    model.compile(sgd(), run_eagerly=True)
    model.a.assign(0.5)
    model.fit(np.ones((4, 1)), verbose=0)
    assert float(model.a) == pytest.approx(1.0)


def test_a_train_step_that_is_a_tf_function():
    class Decorated(Scalars):
        @tf.function
        def train_step(self, batch):
            with tf.GradientTape() as tape:
                loss = (self.a - 2.0) ** 2
                if loss > 1.0:  # A tensor: converted by autograph.
                    loss = loss + (self.a - 1.0) ** 2
            self.optimizer.apply(tape.gradient(loss, [self.a]), [self.a])
            return {"loss_before": loss}

    model = Decorated(None)
    model.compile(newton())
    logs = model.fit(np.ones((4, 1)), verbose=0).history
    assert logs["loss_before"] == [5.0]
    assert float(model.a) == pytest.approx(1.5, abs=1e-4)


def test_randomness_of_tensorflow_is_refused():
    def step(model, batch):
        with tf.GradientTape() as tape:
            loss = (model.a - tf.random.normal(())) ** 2
        model.optimizer.apply(tape.gradient(loss, [model.a]), [model.a])
        return {"loss_before": loss}

    with pytest.raises(ValueError, match=r"RandomStandardNormal.*keras\.random"):
        one_step(step, [newton()], eager=False)


def test_slices_of_a_batch_are_refused():
    with pytest.raises(ValueError, match="`micro_batch_size` needs the train step of Keras"):
        one_step(unwatched, [newton(micro_batch_size=2)])


def test_minimize_and_apply_in_one_train_step_are_refused():
    def step(model, batch):
        unwatched(model, batch)
        return {"loss_before": model.optimizer.minimize(lambda: model.b**2, [model.b])}

    with pytest.raises(ValueError, match=r"optimizer\.minimize\(loss_fn, variables\)"):
        one_step(step, [newton()])


def test_other_calls_than_the_first_time_are_refused():
    calls = []

    def step(model, batch):
        calls.append(1)
        variable = model.a if len(calls) % 2 else model.b
        with tf.GradientTape() as tape:
            loss = (variable - 1.0) ** 2
        model.optimizer.apply(tape.gradient(loss, [variable]), [variable])
        return {}

    with pytest.raises(RuntimeError, match="the same optimizers to the same variables"):
        one_step(step, [newton()])


def test_apply_in_a_branch_is_refused():
    def step(model, batch):
        with tf.GradientTape() as tape:
            loss = (model.a - 1.0) ** 2
        gradients = tape.gradient(loss, [model.a])

        def apply():
            model.optimizer.apply(gradients, [model.a])
            return 1.0

        tf.cond(loss > 0.5, apply, lambda: 0.0)
        return {"loss_before": loss}

    with pytest.raises(NotImplementedError, match=r"in a branch, loop or `tf\.function`"):
        one_step(step, [newton()], eager=False)


def test_a_loss_that_is_not_finite_is_shown_and_changes_nothing():
    def step(model, batch):
        with tf.GradientTape() as tape:
            loss = (model.a - ops.mean(batch[0])) ** 2
        model.optimizer.apply(tape.gradient(loss, [model.a]), [model.a])
        model.tracker.update_state(loss)
        model.teacher.assign(loss)
        return {"mean": model.tracker.result()}

    model = Scalars(step, a=0.5)
    model.tracker = keras.metrics.Mean(name="mean")
    model.compile(newton(), run_eagerly=True)
    model.optimizer.max_consecutive_rejections = 2
    broken = np.full((4, 1), np.nan)
    with (
        pytest.warns(RuntimeWarning, match="loss not finite"),
        pytest.raises(FloatingPointError, match="`max_consecutive_rejections`=2"),
    ):
        model.fit(broken, batch_size=2, verbose=0)
    assert float(model.a) == 0.5
    assert float(model.teacher) == 0
    assert np.isnan(float(model.tracker.result()))


@pytest.mark.slow
def test_the_default_is_preconditioned_and_takes_the_curvature_of_a_part_of_the_rows():
    # The dropout is noisy enough for averaged gradients.
    default = lambda: keras_sfn.SaddleFreeNewton(jit_compile=False, stochastic=False)
    model, losses = fitted(Tape, default, epochs=4, rows=600, batch_size=600)
    assert model.optimizer.last_step.kind == "preconditioned directions"
    assert model.optimizer.options_in_use["curvature_batch_size"] == "auto"
    assert losses["objective"][-1] < losses["objective"][0]


@pytest.mark.slow
def test_replicas_are_told_of_minimize():
    with strategies.mirrored(2).scope():
        model = Tape()
        model(data()[0])
        model.compile(ours())
    with pytest.raises(ValueError, match=r"on one device, and nowhere else"):
        model.fit(*data(), verbose=0)
