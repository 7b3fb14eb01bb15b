import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn import callbacks
from keras_sfn.optimizers import step_program
from keras_sfn.preconditioner import kronecker

# The default: with XLA, which takes most of the time of a first step. Where nothing of it is tested
# `ours` does without.
NAME = "saddle_free_newton"


def ours(*arguments, **options):
    options = {"krylov_dimension": 10, "jit_compile": False} | options
    return keras_sfn.SaddleFreeNewton(*arguments, **options)


def data(rows=32, inputs=6, outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, inputs)).astype("float32")
    return x, np.tanh(x @ rng.normal(size=(inputs, outputs))).astype("float32")


def sequential(**dense):
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, activation="tanh", **dense),
            keras.layers.Dense(2),
        ]
    )


def two_in_two_out():
    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    hidden = keras.layers.Dense(5, activation="tanh")(keras.layers.concatenate([left, right]))
    return keras.Model(
        {"left": left, "right": right},
        {
            "value": keras.layers.Dense(2, name="value")(hidden),
            "sign": keras.layers.Dense(1, activation="sigmoid", name="sign")(hidden),
        },
    )


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(5, activation="tanh")
        self.out = keras.layers.Dense(2)

    def call(self, x):
        return self.out(self.hidden(x))


class WithTrainStep(Subclass):
    def train_step(self, batch):
        logs = super().train_step(batch)
        return {**logs, "extra": tf.constant(7.0)}


class WithPenalty(keras.layers.Layer):
    def call(self, x):
        self.add_loss(0.3 * keras.ops.mean(keras.ops.square(x)))
        return x


@pytest.mark.parametrize(
    ("make", "optimizer"), [(sequential, lambda: NAME), (Subclass, ours), (WithTrainStep, ours)]
)
def test_first_logged_loss_is_that_of_evaluate_and_training_lowers_it(make, optimizer):
    model, (x, y) = make(), data()
    model.compile(optimizer=optimizer(), loss="mse", metrics=["mae"])
    before = model.evaluate(x, y, batch_size=32, verbose=0, return_dict=True)
    history = model.fit(x, y, batch_size=32, epochs=20, verbose=0).history
    assert history["loss"][0] == pytest.approx(before["loss"], rel=1e-5)
    assert history["mae"][0] == pytest.approx(before["mae"], rel=1e-5)
    after = model.evaluate(x, y, batch_size=32, verbose=0, return_dict=True)
    assert after["loss"] < 0.05 * before["loss"]
    assert ("extra" in history) == (make is WithTrainStep)


def test_several_inputs_and_outputs_with_dict_targets_and_loss_weights():
    x, y = data()
    inputs = {"left": x, "right": x[::-1].copy()}
    targets = {"value": y, "sign": (y[:, :1] > 0).astype("float32")}

    def compiled():
        keras.utils.set_random_seed(4)
        model = two_in_two_out()
        model.compile(
            optimizer=ours(),
            loss={"value": "mse", "sign": "binary_crossentropy"},
            loss_weights={"value": 2.0, "sign": 0.5},
            metrics={"sign": "accuracy"},
        )
        return model

    # Two models, so that the one that is trained comes to `fit` with its losses unbuilt.
    before = compiled().evaluate(inputs, targets, batch_size=32, verbose=0, return_dict=True)
    history = compiled().fit(inputs, targets, batch_size=32, epochs=10, verbose=0).history
    assert set(history) == set(before)
    for name, value in before.items():
        assert history[name][0] == pytest.approx(value, rel=1e-5), name
    total = 2 * before["value_loss"] + 0.5 * before["sign_loss"]
    assert before["loss"] == pytest.approx(total, rel=1e-5)
    assert history["loss"][-1] < 0.5 * before["loss"]


def trained_on_labels(x, y, **weights):
    """Losses of three steps on all rows, and the weights after them."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1), keras.layers.Dense(1)])
    model.compile(ours(damping=0.1), "mse")
    options = {"batch_size": len(x), "epochs": 3, "verbose": 0, "shuffle": False}
    return model.fit(x, y, **options, **weights).history["loss"], model.get_weights()


@pytest.mark.slow
def test_weights_of_rows_reach_the_step():
    """Rows of weight zero have no say: the steps are those of the other rows alone."""
    x, _ = data()
    y = (np.arange(32) % 2).astype("float32")[:, None]
    # Means run over all 32 rows: 16 rows of weight 1 count half as much as a batch of 16.
    selected = trained_on_labels(x[1::2], y[1::2], sample_weight=np.full(16, 0.5))
    for weights in ({"sample_weight": y[:, 0]}, {"class_weight": {0: 0.0, 1: 1.0}}):
        weighted = trained_on_labels(x, y, **weights)
        np.testing.assert_allclose(weighted[0], selected[0], rtol=1e-3)
        for got, expected in zip(weighted[1], selected[1], strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-3)


def test_regularisation_and_added_losses_are_trained():
    model = sequential(kernel_regularizer=keras.regularizers.L2(0.1))
    model = keras.Sequential([model, WithPenalty()])
    x, y = data()
    model.compile(optimizer=ours(), loss="mse")
    before = model.evaluate(x, y, batch_size=32, verbose=0)
    kernel = np.linalg.norm(model.trainable_variables[0].numpy())
    history = model.fit(x, y, batch_size=32, epochs=20, verbose=0).history
    assert history["loss"][0] == pytest.approx(before, rel=1e-5)
    assert history["loss"][-1] < before
    assert np.linalg.norm(model.trainable_variables[0].numpy()) < kernel


def test_data_sets_validation_and_callbacks():
    model, (x, y) = sequential(), data(64)
    model.compile(optimizer=ours(), loss="mse")
    batches = []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: batches.append(logs["loss"])
    )
    train = tf.data.Dataset.from_tensor_slices((x[:48], y[:48])).batch(16)
    history = model.fit(
        train, epochs=3, verbose=0, validation_data=(x[48:], y[48:]), callbacks=[callback]
    ).history
    assert len(batches) == 9
    assert history["val_loss"][-1] == pytest.approx(
        model.evaluate(x[48:], y[48:], verbose=0), rel=1e-5
    )


@pytest.mark.slow
def test_options_of_compile_give_the_same_training():
    """With XLA in the step; without, test_fit_options.py has all of them."""
    x, y = data()
    found = []
    for options in ({}, {"run_eagerly": True}, {"steps_per_execution": 2}, {"jit_compile": True}):
        keras.utils.set_random_seed(5)
        model = sequential()
        model.compile(keras_sfn.SaddleFreeNewton(damping=0.1), "mse", **options)
        model.fit(x, y, batch_size=16, epochs=2, verbose=0, shuffle=False)
        found.append(model.evaluate(x, y, verbose=0))
    np.testing.assert_allclose(found[1:], found[0], rtol=1e-3)


@pytest.mark.parametrize("asked", ["auto", True])
def test_xla_compiles_the_step_and_no_eigenvectors(monkeypatch, asked):
    compiled, renewals = [], []
    original, eigenpairs = step_program.compiled, kronecker.eigenpairs

    def spy(compute, loss, whole):
        compiled.append(loss.survey.jit_compile)
        return original(compute, loss, whole)

    def counted(blocks, mean):
        # What XLA cannot compile.
        mean = tf.numpy_function(lambda value: renewals.append(1) or value, [mean], mean.dtype)
        return eigenpairs(blocks, tf.ensure_shape(mean, (kronecker.moments_length(blocks),)))

    monkeypatch.setattr(step_program, "compiled", spy)
    monkeypatch.setattr(kronecker, "eigenpairs", counted)
    x, y = data()
    layers = [keras.layers.Reshape((6, 1)), keras.layers.MaxPooling1D(), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(2)])
    optimizer = keras_sfn.SaddleFreeNewton(stochastic=False)
    model.compile(optimizer, "mse", jit_compile=asked)
    model.fit(x, y, batch_size=16, verbose=0)
    # The optimizer's own choice would be none, for the pooling on a CPU.
    assert compiled == [asked is True]
    assert len(renewals) == 2
    assert model.jit_compile is (asked is True)


_OTHER_OPTIMIZERS = """
import sys
sys.path[:0] = {path!r}
import keras, numpy as np
rng = np.random.default_rng(0)
x, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 2))
def train():
    for optimizer in ("adam", "sgd"):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([
            keras.Input((6,)), keras.layers.Dense(8, activation="relu"),
            keras.layers.BatchNormalization(), keras.layers.Dropout(0.3), keras.layers.Dense(2)])
        model.compile(optimizer, "mse")
        model.fit(x, y, batch_size=16, epochs=3, verbose=0)
        print(b"".join(w.tobytes() for w in model.get_weights()).hex())
train()
assert "keras_sfn" not in sys.modules
import keras_sfn
train()
"""


def test_other_optimizers_train_bit_for_bit_as_without_the_import():
    program = _OTHER_OPTIMIZERS.format(path=sys.path)
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    weights = output.split()
    assert len(weights) == 4
    assert min(map(len, weights)) > 100
    assert weights[:2] == weights[2:]


def test_state_moves_exactly_once_a_step_as_under_sgd():
    """With a step length of zero, ours and SGD leave the same statistics and seeds behind."""
    x, y = data()
    states = []
    for optimizer in (keras_sfn.SaddleFreeNewton(0.0), keras.optimizers.SGD(0.0)):
        keras.utils.set_random_seed(2)
        model = keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(5),
                # Others have a momentum of their own: tests/objective/test_moving_statistics.py.
                keras.layers.BatchNormalization(momentum=0.0),
                keras.layers.Dropout(0.5),
                keras.layers.GaussianNoise(0.1),
                keras.layers.Dense(2),
            ]
        )
        model.compile(optimizer, "mse")
        model.fit(x, y, batch_size=16, epochs=2, verbose=0, shuffle=False)
        states.append([v.numpy() for v in model.non_trainable_variables])
    assert len(states[0]) == 4
    for ours, theirs in zip(*states, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert not np.allclose(states[0][0], 0)


@pytest.mark.parametrize(("inner_steps", "jit"), [(1, False), (3, "auto")])
def test_every_evaluation_of_a_step_sees_the_same_dropout_mask(inner_steps, jit):
    """The loss is exactly quadratic in the last kernel once the mask is fixed.

    So a single undamped step, and inner steps that stay there, reach the least squares of that
    mask, which is found in NumPy from the mask that the pass used.
    """

    class Recorder(keras.layers.Layer):
        def build(self, shape):
            self.seen = self.add_weight(
                shape=(24, 6), initializer="zeros", trainable=False, name="seen"
            )

        def call(self, x):
            self.seen.assign(x)
            return x

    x, y = data(24)
    model = keras.Sequential(
        [
            keras.Input((6,), batch_size=24),
            keras.layers.Dropout(0.3),
            Recorder(),
            keras.layers.Dense(2, use_bias=False),
        ]
    )
    optimizer = keras_sfn.SaddleFreeNewton(
        damping=0.0, krylov_dimension=20, inner_steps=inner_steps, jit_compile=jit
    )
    model.compile(optimizer, "mse")
    model.train_on_batch(x, y)
    masked = model.layers[1].seen.numpy()
    assert 0.1 < (masked == 0).mean() < 0.5
    expected, *_ = np.linalg.lstsq(masked, y, rcond=None)
    np.testing.assert_allclose(model.layers[-1].get_weights()[0], expected, atol=1e-4)


def test_no_trace_after_the_first_batch_of_a_shape():
    traces = []

    class Counting(Subclass):
        def call(self, x):
            traces.append(1)
            return super().call(x)

    model, (x, y) = Counting(), data(40)
    model.compile(optimizer=ours(), loss="mse")
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)  # batches of 16, 16 and 8
    first = len(traces)
    model.fit(x, y, batch_size=16, epochs=3, verbose=0)
    assert len(traces) == first


@pytest.mark.parametrize("train", ["fit", "train_on_batch"])
@pytest.mark.parametrize("make", [Subclass, sequential])
def test_the_first_step_is_traced_once(make, train):
    model, (x, y) = make(), data(16)
    model.compile(optimizer=ours(), loss="mse", metrics=["mae"])
    step, traces = model.optimizer.step, []

    def counting(*arguments, **options):
        traces.append(1)
        return step(*arguments, **options)

    model.optimizer.step = counting
    if train == "fit":
        model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    else:
        for _ in range(2):
            model.train_on_batch(x, y)
    assert len(traces) == 1


@pytest.mark.slow
@pytest.mark.parametrize("damping", ["search", "adaptive", 0.1])
def test_a_batch_of_nan_changes_nothing_and_training_goes_on(damping):
    model, (x, y) = sequential(), data()
    model.compile(ours(damping=damping), "mse")
    model.train_on_batch(x, y)
    before = model.get_weights()
    broken = x.copy()
    broken[3, 2] = np.nan
    model.train_on_batch(broken, y)
    for got, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert int(model.optimizer.rejected_steps) == 1
    loss = model.evaluate(x, y, verbose=0)
    model.fit(x, y, batch_size=32, epochs=5, verbose=0)
    assert model.evaluate(x, y, verbose=0) < loss


def test_the_hessian_is_that_of_evenly_spaced_rows():
    """A linear model: gradient of all rows, Hessian of eight, by hand."""
    x, y = data(32, 3, 1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(ours(damping=0.05, curvature_batch_size=8), "mse")
    kernel = model.get_weights()[0].astype("float64")
    model.train_on_batch(x, y)
    gradient = 2 * x.T @ (x @ kernel - y) / 32
    hessian = 2 * x[::4].T @ x[::4] / 8
    expected = kernel - np.linalg.solve(hessian + 0.05 * np.eye(3), gradient)
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-3)


@pytest.mark.slow
def test_a_curvature_batch_larger_than_the_batch_is_the_batch():
    x, y = data()
    kernels = []
    for rows in (None, 1000):
        keras.utils.set_random_seed(1)
        model = sequential()
        model.compile(ours(damping=0.1, curvature_batch_size=rows), "mse")
        model.train_on_batch(x, y)
        kernels.append(model.get_weights()[0])
    np.testing.assert_allclose(kernels[0], kernels[1], rtol=1e-5)


def test_a_curvature_batch_refuses_losses_that_are_sums():
    model, (x, y) = sequential(), data()
    loss = keras.losses.MeanSquaredError(reduction="sum")
    model.compile(keras_sfn.SaddleFreeNewton(curvature_batch_size=8), loss)
    with pytest.raises(ValueError, match="`curvature_batch_size` needs losses that are means"):
        model.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        (lambda k: [k.Conv2D(3, 2, activation="tanh"), k.Flatten(), k.Dense(2)], (4, 4, 1)),
        (lambda k: [k.LSTM(4), k.Dense(2)], (5, 3)),
        (lambda k: [k.SimpleRNN(4), k.Dense(2)], (5, 3)),
        (lambda k: [k.Embedding(7, 3), k.GlobalAveragePooling1D(), k.Dense(2)], (6,)),
    ],
)
def test_layers_of_many_kinds(layers, shape):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 7, (16, *shape)) if len(shape) == 1 else rng.normal(size=(16, *shape))
    y = rng.normal(size=(16, 2))
    model = keras.Sequential([keras.Input(shape), *layers(keras.layers)])
    model.compile(optimizer=NAME, loss="mse")
    losses = model.fit(x, y, batch_size=16, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    assert (np.diff(losses) <= 1e-6).all()


def test_an_own_train_step_can_call_minimize():
    class Custom(Subclass):
        def train_step(self, batch):
            x, y = batch
            loss_fn = lambda: self.compute_loss(x, y, self(x, training=True))
            # Not "loss": Keras would show its own tracker of that name, which stays at zero here.
            return {"objective": self.optimizer.minimize(loss_fn, self.trainable_variables)}

    model, (x, y) = Custom(), data()
    model(x)
    model.compile(optimizer=ours(), loss="mse")
    losses = model.fit(x, y, batch_size=32, epochs=5, verbose=0).history["objective"]
    assert losses[-1] < 0.5 * losses[0]


class WithMinimize(Subclass):
    """As the example in docs/training.md."""

    def train_step(self, batch):
        x, y = batch

        def loss_fn():
            y_pred = self(x, training=True)
            return self.compute_loss(x, y, y_pred), y_pred

        loss = self.optimizer.minimize(loss_fn, self.trainable_variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, self(x))
        return self.get_metrics_result()


def with_minimize(make=WithMinimize, loss="mse", seed=1, **options):
    keras.utils.set_random_seed(seed)
    model = make()
    model(data()[0])
    model.compile(keras_sfn.SaddleFreeNewton(jit_compile=False, **options), loss, metrics=["mae"])
    return model


def fit_all(model, epochs=5, before=(), x=None):
    rows, y = data()
    return model.fit(
        rows if x is None else x,
        y,
        batch_size=32,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[*before, keras_sfn.CurvatureLogger()],
    ).history


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("loss", "options", "kind"),
    [
        # No part can be taken for all rows: neither of this sum, nor of what `minimize` gets.
        (
            keras.losses.MeanSquaredError(reduction="sum"),
            {},
            "preconditioned directions on all rows",
        ),
        ("mse", {"krylov_dimension": 10}, "Lanczos vectors"),
    ],
)
def test_minimize_in_an_own_train_step_takes_the_steps_of_fit(loss, options, kind):
    found = {}
    for make in (Subclass, WithMinimize):
        model = with_minimize(make, loss, **options)
        found[make] = fit_all(model)
        assert model.optimizer.last_step.kind == kind
    losses = found[WithMinimize]["loss"]
    assert losses[-1] < 0.5 * losses[0]
    for name in ("loss", *callbacks.FIGURES):
        np.testing.assert_allclose(
            found[WithMinimize][name], found[Subclass][name], rtol=1e-6, err_msg=name
        )


@pytest.mark.slow
def test_minimize_in_an_own_train_step_takes_the_directions_of_fit_on_all_rows():
    for make, kind in (
        (Subclass, "preconditioned directions"),
        (WithMinimize, "preconditioned directions on all rows"),
    ):
        model = with_minimize(make, curvature_batch_size=None)
        losses = fit_all(model, 4)["loss"]
        assert model.optimizer.last_step.kind == kind
        assert model.optimizer.options_in_use["preconditioned_directions"] == 4
        assert losses[-1] < losses[0]


def test_an_own_train_step_ends_after_too_many_failures():
    model = with_minimize()
    model.optimizer.max_consecutive_rejections = 3
    fit_all(model, 1)
    before = model.get_weights()
    broken = data()[0]
    broken[3, 2] = np.nan
    epochs = []
    count = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
    with (
        pytest.warns(RuntimeWarning, match="loss not finite"),
        pytest.raises(FloatingPointError, match="`max_consecutive_rejections`=3"),
    ):
        fit_all(model, 9, [count], broken)
    assert epochs == [0, 1, 2]
    assert int(model.optimizer.rejected_steps) == 3
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_an_own_train_step_resumes(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    whole = fit_all(with_minimize(), 6)
    backup = lambda: keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        fit_all(with_minimize(), 6, [backup(), Stop()])
    rest = fit_all(with_minimize(seed=2), 6, [backup()])
    for name in ("loss", "mae", *callbacks.FIGURES):
        np.testing.assert_allclose(rest[name], whole[name][3:], rtol=1e-6, err_msg=name)


def test_float16_with_loss_scaling_is_refused():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = sequential()
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = data()
    model.compile(optimizer=NAME, loss="mse")
    with pytest.raises(ValueError, match=r"LossScaleOptimizer.*mixed_bfloat16"):
        model.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        (("float16", "float16"), "no layers that compute in float16"),
        # `compile` has not seen it, and scales no loss.
        (("float32", "mixed_float16"), "no layers that compute in float16"),
        (("mixed_bfloat16", "float16"), "no layers that compute in float16"),
    ],
)
def test_float16_is_refused_wherever_it_is(policies, message):
    dense = [keras.layers.Dense(2, dtype=policy) for policy in policies]
    model, (x, y) = keras.Sequential([keras.Input((6,)), *dense]), data()
    model.compile(optimizer=NAME, loss="mse")
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, verbose=0)


def test_float16_variables_are_refused_in_loops_too():
    v = keras.Variable([1.0], dtype="float16", name="half")
    with pytest.raises(ValueError, match=r"no float16 variables.*`half`.*bfloat16"):
        ours().minimize(lambda: v.value[0] ** 2, [v])


@pytest.mark.parametrize("own", [False, True])
def test_a_batch_of_unknown_shape_is_refused_by_name(own):
    class Free(Subclass):
        def call(self, x):
            return super().call(tf.reshape(x, (-1, 6)))

    class Own(Free):
        def train_step(self, batch):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(batch[0]) - tf.reshape(batch[1], (-1, 2))) ** 2)
            variables = self.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return {"objective": loss}

    x, y = data()
    types = (tf.float32, tf.float32)
    batches = tf.data.Dataset.from_generator(lambda: [(x, y)], output_types=types)
    model = Own() if own else Free()
    model(x)
    model.compile(ours(), "mse")
    with pytest.raises(ValueError, match=r"unknown shape.*Pass `output_signature`"):
        model.fit(batches, verbose=0)


def test_bfloat16_trains():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = sequential()
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = data()
    model.compile(optimizer=NAME, loss="mse")
    losses = model.fit(x, y, batch_size=32, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_float64_trains_to_more_digits_than_float32_has():
    model, (x, _) = sequential(), data()
    teacher = sequential()
    y = teacher.predict(x, verbose=0)
    model.set_weights([w + 0.05 for w in teacher.get_weights()])
    model.compile(optimizer=ours(), loss="mse")
    losses = model.fit(x, y, batch_size=32, epochs=150, verbose=0).history["loss"]
    assert losses[-1] < 1e-13


def test_a_model_without_trainable_weights_is_refused():
    model, (x, y) = sequential(), data()
    model.trainable = False
    model.compile(optimizer=NAME, loss="mse")
    with pytest.raises(ValueError, match=r"at least one trainable variable.*trainable = True"):
        model.fit(x, y, verbose=0)


def test_a_loss_that_ignores_the_weights_is_refused():
    model, (x, y) = sequential(), data()
    model.compile(optimizer=NAME, loss=lambda y_true, y_pred: keras.ops.mean(y_true, axis=-1))
    with pytest.raises(ValueError, match="must depend on the trained variables"):
        model.fit(x, y, verbose=0)


def test_a_call_that_is_a_tf_function_is_refused():
    class Decorated(Subclass):
        @tf.function
        def call(self, x):
            return super().call(x)

    model, (x, y) = Decorated(), data()
    model(x)
    model.compile(optimizer=NAME, loss="mse")
    with pytest.raises(ValueError, match=r"@tf\.function"):
        model.fit(x, y, verbose=0)


def test_unseeded_randomness_is_refused():
    class Noisy(Subclass):
        def call(self, x):
            return super().call(x + tf.random.normal(tf.shape(x)))

    model, (x, y) = Noisy(), data()
    model.compile(optimizer=NAME, loss="mse")
    with pytest.raises(ValueError, match="RandomStandardNormal"):
        model.fit(x, y, verbose=0)


def test_importing_twice_wraps_once():
    from keras_sfn.fit import train_step

    wrapped = keras.Model.train_step
    train_step.install()
    assert keras.Model.train_step is wrapped
    assert keras_sfn.SaddleFreeNewton is keras.saving.get_custom_objects()[NAME]


@pytest.mark.parametrize(("inner_steps", "jit"), [(1, False), (2, "auto")])
def test_semi_gradients_lower_the_loss_with_constant_targets(inner_steps, jit):
    """The target is the network's own output: its loss is zero at any weights.

    With the targets of the step held constant, a step towards them changes nothing, and one towards
    the targets plus one lowers the loss as in ordinary regression.
    """
    k = keras.layers

    class Chase(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            target = keras.ops.stop_gradient(y_pred) + 1.0
            return keras.ops.mean((y_pred - target) ** 2)

    inputs = keras.Input((3,))
    model = Chase(inputs, k.Dense(1)(inputs))
    model.compile(ours(inner_steps=inner_steps, jit_compile=jit))
    x = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
    before = model.predict(x, verbose=0)
    model.fit(x, x[:, :1], batch_size=32, epochs=1, verbose=0)
    assert int(model.optimizer.rejected_steps) == 0
    # A linear model with a bias reaches its targets in one step.
    np.testing.assert_allclose(model.predict(x, verbose=0), before + 1, atol=1e-2)


@pytest.mark.slow
def test_the_state_of_a_stateful_rnn_moves_once_a_step():
    inputs = keras.Input((5, 2), batch_size=4)
    rnn = keras.layers.LSTM(3, stateful=True)
    model = keras.Model(inputs, keras.layers.Dense(1)(rnn(inputs)))
    model.compile("saddle_free_newton", "mse")
    x = np.random.default_rng(0).normal(size=(4, 5, 2)).astype("float32")
    rnn(x)  # A state that is not zero.
    start = [state.numpy() for state in rnn.states]
    model(x, training=True)
    expected = [state.numpy() for state in rnn.states]
    for state, value in zip(rnn.states, start, strict=True):
        state.assign(value)
    model.train_on_batch(x, x[:, 0, :1])
    for state, value in zip(rnn.states, expected, strict=True):
        np.testing.assert_allclose(state.numpy(), value, rtol=1e-5, atol=1e-6)
