"""What Keras users set in `compile` and `fit`, each against training batch by batch or by hand."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("double_precision")]


def data(rows=40):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 6)).astype("float32")
    return x, np.tanh(x @ rng.normal(size=(6, 2))).astype("float32")


def network():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(2),
        ]
    )


def ours(**options):
    defaults = {"damping": 0.1, "krylov_dimension": 4, "jit_compile": False}
    return keras_sfn.SaddleFreeNewton(**(defaults | options))


def compiled(optimizer=None, **options):
    model = network()
    model.compile(optimizer or ours(), "mse", **options)
    return model


def assert_same(weights, expected, rtol=1e-5):
    for got, wanted in zip(weights, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=rtol, atol=rtol)


BATCHES = [(0, 16), (16, 32), (32, 40)]


@pytest.fixture(scope="module")
def by_batches(double_precision):
    """Weights after two epochs of batches of 16, 16 and 8 rows, one `train_on_batch` each."""
    model, (x, y) = compiled(), data()
    for _ in range(2):
        for start, end in BATCHES:
            model.train_on_batch(x[start:end], y[start:end])
    assert int(model.optimizer.iterations) == 6
    return model.get_weights()


@pytest.mark.parametrize(
    ("options", "rtol"),
    [
        ({}, 1e-6),
        ({"steps_per_execution": 2}, 1e-6),
        ({"steps_per_execution": 7}, 1e-6),
        ({"run_eagerly": True}, 1e-4),
        ({"jit_compile": True}, 1e-4),
        ({"jit_compile": True, "steps_per_execution": 2}, 1e-4),
    ],
    ids=str,
)
def test_options_of_compile_and_a_smaller_last_batch(options, rtol, by_batches):
    model, (x, y) = compiled(**options), data()
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, shuffle=False)
    assert int(model.optimizer.iterations) == 6
    assert_same(model.get_weights(), by_batches, rtol)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return len(BATCHES)

    def __getitem__(self, index):
        (x, y), (start, end) = data(), BATCHES[index]
        return x[start:end], y[start:end]


def generator():
    while True:
        x, y = data()
        for start, end in BATCHES:
            yield x[start:end], y[start:end]


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (generator, {"steps_per_epoch": 3}),
        (Batches, {}),
        (
            lambda: tf.data.Dataset.from_tensor_slices(data()).batch(16).repeat(),
            {"steps_per_epoch": 3},
        ),
    ],
    ids=["generator", "PyDataset", "endless data set"],
)
def test_sources_of_data(source, options, by_batches):
    model = compiled()
    model.fit(source(), epochs=2, verbose=0, shuffle=False, **options)
    assert_same(model.get_weights(), by_batches, 1e-6)


def test_fewer_steps_an_epoch_than_batches():
    model, (x, y) = compiled(), data()
    model.fit(x, y, batch_size=16, epochs=2, steps_per_epoch=1, verbose=0, shuffle=False)
    assert int(model.optimizer.iterations) == 2


def test_class_weight_is_a_weight_of_rows():
    x, _ = data()
    labels = (np.arange(40) % 2).astype("float32")[:, None]
    weights = []
    for options in (
        {"class_weight": {0: 0.2, 1: 3.0}},
        {"sample_weight": np.where(labels[:, 0] > 0, 3.0, 0.2)},
    ):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, activation="sigmoid")])
        model.compile(ours(), "binary_crossentropy")
        model.fit(x, labels, batch_size=40, epochs=2, verbose=0, **options)
        weights.append(model.get_weights())
    assert_same(*weights)


def test_frozen_layers_stay_and_thaw_at_the_next_compile():
    model, (x, y) = network(), data()
    model.layers[0].trainable = False
    model.compile(ours(), "mse")
    frozen, start = model.layers[0].get_weights(), model.layers[1].get_weights()
    model.fit(x, y, batch_size=40, epochs=1, verbose=0)
    assert_same(model.layers[0].get_weights(), frozen, 0)
    assert not np.allclose(model.layers[1].get_weights()[0], start[0])
    model.layers[0].trainable = True
    model.compile(ours(), "mse")
    model.fit(x, y, batch_size=40, epochs=1, verbose=0)
    assert not np.allclose(model.layers[0].get_weights()[0], frozen[0])


def test_recompiling_changes_the_optimizer():
    model, (x, y) = compiled(), data()
    model.fit(x, y, batch_size=40, verbose=0)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = model.get_weights()
    with tf.GradientTape() as tape:
        loss = keras.ops.mean((model(x) - y) ** 2)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    model.fit(x, y, batch_size=40, verbose=0)
    expected = [w - 0.1 * g.numpy() for w, g in zip(before, gradients, strict=True)]
    assert_same(model.get_weights(), expected)
    loss = model.evaluate(x, y, verbose=0)
    model.compile(ours(damping="search"), "mse")
    model.fit(x, y, batch_size=40, verbose=0)
    assert int(model.optimizer.iterations) == 1
    assert model.evaluate(x, y, verbose=0) < 0.9 * loss


def test_recompiling_with_the_same_optimizer_keeps_its_state(by_batches):
    model, (x, y) = compiled(), data()
    for _ in range(2):
        model.fit(x, y, batch_size=16, epochs=1, verbose=0, shuffle=False)
        model.compile(model.optimizer, "mse")
    assert int(model.optimizer.iterations) == 6
    assert_same(model.get_weights(), by_batches, 1e-6)


def test_an_optimizer_of_another_model_is_refused_as_keras_does():
    (x, y), optimizer = data(), ours()
    compiled(optimizer).fit(x, y, verbose=0)
    second = network()
    second.compile(optimizer, "mse")
    before = second.get_weights()
    with pytest.raises(ValueError, match=r"Unknown variable: .*Make a new optimizer for another"):
        second.fit(x, y, verbose=0)
    assert_same(second.get_weights(), before, 0)


def linear(optimizer, bias=False):
    """Least squares, on which a full undamped step goes to the solution, and that solution."""
    x, y = data()
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2, use_bias=bias)])
    model.compile(optimizer, "mse")
    columns = np.concatenate([x, np.ones((40, int(bias)))], axis=1)
    solution, *_ = np.linalg.lstsq(columns, y, rcond=None)
    return model, solution


def exact(**options):
    return keras_sfn.SaddleFreeNewton(
        damping=0.0, krylov_dimension=14, use_previous_step=False, jit_compile=False, **options
    )


class Kernels(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seen = [self.model.layers[0].kernel.numpy()]

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.model.layers[0].kernel.numpy())


def fit_full(model, epochs, *callbacks):
    x, y = data()
    return model.fit(x, y, batch_size=40, epochs=epochs, verbose=0, callbacks=list(callbacks))


def fractions(seen, solution):
    """What part of the way to the solution each step went."""
    return [
        np.linalg.norm(after - before) / np.linalg.norm(solution - before)
        for before, after in itertools.pairwise(seen)
    ]


def test_learning_rate_scheduler():
    model, solution = linear(exact())
    kernels = Kernels()
    rates = [1.0, 0.25, 0.5]
    # From epoch 1 on, so that the first step does not arrive.
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: rates[(epoch + 1) % 3])
    history = fit_full(model, 3, scheduler, kernels).history
    assert history["learning_rate"] == [0.25, 0.5, 1.0]
    np.testing.assert_allclose(fractions(kernels.seen, solution), [0.25, 0.5, 1.0], rtol=1e-3)


def test_learning_rate_set_in_mid_run():
    class Halve(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.8 / 2**epoch

    model, solution = linear(exact())
    kernels = Kernels()
    fit_full(model, 3, Halve(), kernels)
    np.testing.assert_allclose(fractions(kernels.seen, solution), [0.8, 0.4, 0.2], rtol=1e-3)


def test_reduce_on_plateau():
    model, solution = linear(exact(learning_rate=0.5))
    kernels = Kernels()
    # No epoch improves by the whole loss: each one after the first is a plateau.
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    fit_full(model, 3, plateau, kernels)
    np.testing.assert_allclose(fractions(kernels.seen, solution), [0.5, 0.5, 0.25], rtol=1e-3)


def test_early_stopping_at_convergence_brings_back_the_best_weights():
    model, _ = linear(exact())
    stopping = keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    history = fit_full(model, 50, stopping).history["loss"]
    assert len(history) < 20
    assert fit_full(model, 1).history["loss"][0] == pytest.approx(min(history), rel=1e-5)


def test_terminate_on_nan():
    model, (x, y) = compiled(), data()
    x[20] = np.nan
    before = model.get_weights()
    with pytest.warns(RuntimeWarning, match="loss not finite"):
        history = model.fit(
            x,
            y,
            batch_size=40,
            epochs=5,
            verbose=0,
            callbacks=[keras.callbacks.TerminateOnNaN()],
        ).history
    assert len(history["loss"]) == 1
    assert_same(model.get_weights(), before, 0)


def test_weight_decay_is_that_of_keras_and_spares_what_is_excluded():
    """Keras documents w <- w - w * weight_decay * learning_rate, next to the step."""
    rate, decay = 0.5, 0.1
    optimizer = exact(learning_rate=rate, weight_decay=decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model, solution = linear(optimizer, bias=True)
    decayed = np.r_[np.ones(6), 0][:, None]
    expected = np.vstack(model.get_weights())
    for _ in range(3):
        expected += rate * (solution - expected) - decayed * expected * decay * rate
    fit_full(model, 3)
    assert_same([np.vstack(model.get_weights())], [expected], 1e-4)


@pytest.mark.parametrize("overwrite", [None, 2])
def test_moving_average_is_that_of_keras(overwrite):
    """average = m average + (1 - m) w, begun at the first w; put in place every so many steps."""
    momentum, rate = 0.8, 0.5
    optimizer = exact(
        learning_rate=rate, use_ema=True, ema_momentum=momentum, ema_overwrite_frequency=overwrite
    )
    model, solution = linear(optimizer)
    kernels = Kernels()
    w = model.get_weights()[0]
    expected, average = [w], None
    for step in range(5):
        w = w + rate * (solution - w)
        average = w if average is None else momentum * average + (1 - momentum) * w
        if overwrite is not None and (step + 1) % overwrite == 0:
            w = average
        expected.append(w)
    fit_full(model, 5, kernels)
    assert_same(kernels.seen, expected, 1e-4)
    # The end of `fit` leaves the average in the model.
    assert_same(model.get_weights(), [average], 1e-4)


def test_evaluate_predict_and_export_are_as_with_any_optimizer(tmp_path):
    x, y = data()
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )
    model.compile(ours(), "mse", metrics=["mae"])
    model.fit(x, y, batch_size=20, epochs=1, verbose=0)
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    twin.compile("sgd", "mse", metrics=["mae"])
    state = [v.numpy() for v in model.variables]
    steps = int(model.optimizer.iterations)
    assert model.evaluate(x, y, verbose=0) == twin.evaluate(x, y, verbose=0)
    predicted = model.predict(x, verbose=0)
    np.testing.assert_array_equal(predicted, twin.predict(x, verbose=0))
    model.export(tmp_path / "served", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "served")
    served = loaded.serve(x)
    np.testing.assert_allclose(served, predicted, rtol=1e-5, atol=1e-6)
    for variable, before in zip(model.variables, state, strict=True):
        np.testing.assert_array_equal(variable.numpy(), before)
    assert int(model.optimizer.iterations) == steps
    model.fit(x, y, batch_size=20, epochs=1, verbose=0)


def test_a_train_function_is_made_once_and_anew_when_forced():
    model, (x, y) = compiled(), data()
    model.fit(x, y, verbose=0)
    made = model.train_function
    model.make_train_function()
    assert model.train_function is made
    model.make_train_function(force=True)
    assert model.train_function is not made
    model.fit(x, y, verbose=0)
