"""Steps of averaged gradients, as optimizers take them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn import datasets

import keras_sfn
from keras_sfn.optimizers import batch_noise, newton_optimizer


def digits():
    x, y = datasets.load_digits(return_X_y=True)
    return (x / 16).astype("float32"), y


def model(optimizer, dtype=None, **options):
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, activation="tanh", dtype=dtype),
            keras.layers.Dense(10, dtype=dtype),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer=optimizer, loss=loss, jit_compile=False, **options)
    return network


def sfn(**options):
    return keras_sfn.SaddleFreeNewton(**({"jit_compile": False} | options))


@pytest.mark.slow
def test_noisy_batches_are_found_and_all_data_in_one_batch_too():
    x, y = digits()
    network = model(sfn())
    network.fit(x[:256], y[:256], batch_size=256, epochs=2, verbose=0)
    assert network.optimizer.last_step.kind == "preconditioned directions"
    network.fit(x[:256], y[:256], batch_size=32, verbose=0)
    assert network.optimizer.last_step.kind == "averaged gradients"
    assert network.optimizer.options_in_use["stochastic"] is True
    network.fit(x[:256], y[:256], batch_size=256, verbose=0)
    assert network.optimizer.last_step.kind == "preconditioned directions"


@pytest.mark.parametrize("batch_size", [32, 256])
def test_one_kind_of_step_is_traced(monkeypatch, batch_size):
    traced = []
    for name in ("_averaged_step", "_step_in_subspace"):
        original = getattr(newton_optimizer.NewtonOptimizer, name)

        def spy(self, *arguments, name=name, original=original):
            traced.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(newton_optimizer.NewtonOptimizer, name, spy)
    x, y = digits()
    model(sfn()).fit(x[:256], y[:256], batch_size=batch_size, epochs=2, verbose=0)
    assert traced == ["_averaged_step" if batch_size < 256 else "_step_in_subspace"]


def test_looks_at_noise_are_not_compiled_later_on(monkeypatch):
    seen = []
    for owner, name in (
        (batch_noise.BatchNoise, "look"),
        (newton_optimizer.NewtonOptimizer, "_averaged_step"),
    ):
        original = getattr(owner, name)

        def spy(self, batch, loss, *rest, original=original, **options):
            seen.append((loss.survey.jit_compile, loss.survey.first_compiled_step))
            return original(self, batch, loss, *rest, **options)

        monkeypatch.setattr(owner, name, spy)
    x, y = digits()
    network = model(sfn(jit_compile="auto"))
    network.fit(x[:64], y[:64], batch_size=32, verbose=0)
    assert seen == [(False, 0)] * 2


def test_batches_with_little_noise_are_left_to_the_other_kind():
    halves = [np.tile(np.arange(start, start + 32), 2) for start in range(0, 128, 32)]
    x, y = (part[np.concatenate(halves)] for part in digits())
    network = model(sfn())
    kinds = []
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: kinds.append(network.optimizer.last_step.kind)
    )
    network.fit(x, y, batch_size=64, shuffle=False, verbose=0, callbacks=[record])
    assert kinds == ["averaged gradients", *3 * ["preconditioned directions"]]


@pytest.mark.slow
def test_all_data_in_one_batch_trains_as_without():
    x, y = digits()
    weights = []
    for stochastic in ("auto", False):
        network = model(sfn(stochastic=stochastic))
        network.fit(x[:200], y[:200], batch_size=200, epochs=4, verbose=0)
        weights.append(np.concatenate([w.numpy().ravel() for w in network.trainable_variables]))
    np.testing.assert_array_equal(*weights)


@pytest.mark.parametrize(
    "options", [{"damping": 1.0}, {"preconditioned_directions": 2}, {"stochastic": False}]
)
def test_who_fixes_what_a_subspace_does_gets_it(options):
    x, y = digits()
    network = model(sfn(**options))
    network.fit(x[:128], y[:128], batch_size=32, verbose=0)
    assert network.optimizer.last_step.kind == "preconditioned directions"


class Shaken(keras.layers.Layer):
    """Adds noise to what comes in."""

    def __init__(self, size):
        super().__init__()
        self._size = size
        self._seed = keras.random.SeedGenerator(0)

    def call(self, inputs):
        noise = keras.random.normal(keras.ops.shape(inputs), seed=self._seed)
        return inputs + self._size * noise


@pytest.mark.slow
@pytest.mark.parametrize("size", [0.0, 2.0])
def test_a_loss_that_draws_is_noisy_with_all_data_in_one_batch(size):
    x, y = digits()
    keras.utils.set_random_seed(0)
    layers = [keras.Input((64,)), keras.layers.Dense(16, "tanh"), Shaken(size)]
    network = keras.Sequential([*layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer=sfn(), loss=loss, jit_compile=False)
    network.fit(x[:256], y[:256], batch_size=256, epochs=45, verbose=0)
    averaged = network.optimizer.last_step.kind == "averaged gradients"
    assert averaged == (size > 0)


def test_a_training_ends_at_the_mean_of_the_last_points(recwarn):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(96, 5)), rng.normal(size=(96, 1))
    network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    network.compile(optimizer=sfn(stochastic=True), loss="mse", jit_compile=False)
    points = []
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: points.append(network.get_weights()[0])
    )
    options = {"batch_size": 8, "verbose": 0, "callbacks": [record]}
    network.fit(x, y, epochs=2, **options)
    np.testing.assert_array_equal(network.get_weights()[0], points[-1])
    network.fit(x, y, epochs=30, **options)
    ends = network.get_weights()[0]
    assert np.abs(ends - points[-1]).max() > 0
    # The last point is not in it: its loss was not seen. Older ones fade.
    mean = points[-300]
    for point in points[-299:-1]:
        mean = mean + (point - mean) / 30
    np.testing.assert_allclose(ends, mean, atol=1e-5)
    assert not [each for each in recwarn if "promised" in str(each.message)]


@pytest.mark.slow
def test_it_is_ahead_of_adam_after_as_much_work():
    x, y = digits()
    network = model(sfn())
    network.fit(x, y, batch_size=64, epochs=10, verbose=0)
    loss = network.evaluate(x, y, verbose=0)
    steps = network.optimizer.iterations.numpy()
    losses = []
    for rate in (3e-3, 1e-2):
        # A look costs two gradients and a forward pass.
        epochs = 14
        schedule = keras.optimizers.schedules.CosineDecay(rate, int(1.4 * steps))
        adam = model(keras.optimizers.Adam(schedule))
        adam.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
        losses.append(adam.evaluate(x, y, verbose=0))
    assert loss < min(losses)


def test_a_hand_written_loop():
    x, y = digits()
    network = model(sfn())
    optimizer = sfn(stochastic=True)
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(rows, labels):
        return optimizer.minimize(
            lambda: loss_fn(labels, network(rows, training=True)), network.trainable_variables
        )

    losses = [
        float(step(tf.constant(x[i : i + 64]), tf.constant(y[i : i + 64])))
        for _ in range(3)
        for i in range(0, 1024, 64)
    ]
    assert np.mean(losses[-16:]) < 0.3 * np.mean(losses[:16])
    assert optimizer.last_step.kind == "averaged gradients"


@pytest.mark.slow
def test_one_that_is_saved_goes_on_as_if_it_had_not_stopped(tmp_path):
    x, y = digits()
    options = {"batch_size": 32, "shuffle": False, "verbose": 0}
    network = model(sfn())
    network.fit(x[:256], y[:256], **options)
    network.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for one in (network, again):
        one.fit(x[256:512], y[256:512], **options)
    for one, other in zip(network.trainable_variables, again.trainable_variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-6)


def test_a_batch_that_is_not_finite_moves_nothing_for_good():
    x, y = digits()
    network = model(sfn(stochastic=True))
    network.fit(x[:320], y[:320], batch_size=32, verbose=0)
    bad = np.full_like(x[:32], np.nan)
    with pytest.warns(RuntimeWarning):
        network.fit(bad, y[:32], batch_size=32, verbose=0)
    assert network.optimizer.last_step.outcome == "loss not finite"
    assert all(np.isfinite(weight).all() for weight in network.get_weights())
    network.fit(x[:320], y[:320], batch_size=32, epochs=5, verbose=0)
    assert network.evaluate(x[:320], y[:320], verbose=0) < 1.0


@pytest.mark.parametrize(
    "options",
    [
        {"max_step_norm": 0.01},
        {"weight_decay": 1e-4},
        {"use_ema": True},
        {"learning_rate": keras.optimizers.schedules.CosineDecay(1.0, 10)},
        {"jit_compile": True},
    ],
)
def test_options(options):
    x, y = digits()
    network = model(sfn(stochastic=True, **options))
    network.fit(x[:320], y[:320], batch_size=32, verbose=0)
    last = network.optimizer.last_step
    assert last.outcome == "accepted"
    assert last.directions == 1
    assert last.step_norm <= options.get("max_step_norm", np.inf) * (1 + 1e-5)


@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16"])
def test_precisions(dtype):
    x, y = digits()
    network = model(sfn(stochastic=True), dtype)
    history = network.fit(x[:320], y[:320], batch_size=32, epochs=3, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]


def test_eager_steps():
    x, y = digits()
    network = model(sfn(), run_eagerly=True)
    network.fit(x[:96], y[:96], batch_size=32, verbose=0)
    assert network.optimizer.last_step.kind == "averaged gradients"


def test_batches_of_one_row():
    x, y = digits()
    network = model(sfn(stochastic=True))
    network.fit(x[:6], y[:6], batch_size=1, verbose=0)
    assert network.optimizer.last_step.kind == "averaged gradients"


def test_batches_of_which_no_row_counts():
    x, y = digits()
    weights = np.ones(160)
    weights[64:128] = 0
    network = model(sfn(stochastic=True))
    options = {"batch_size": 32, "shuffle": False, "verbose": 0}
    network.fit(x[:160], y[:160], sample_weight=weights, **options)
    assert network.optimizer.last_step.outcome == "accepted"
    assert all(np.isfinite(weight).all() for weight in network.get_weights())
    losses = network.fit(x[:64], y[:64], epochs=20, **options).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    # A training that begins with such a batch has no direction, and goes on from there.
    network = model(sfn(stochastic=True))
    network.fit(x[:32], y[:32], sample_weight=np.zeros(32), **options)
    losses = network.fit(x[:64], y[:64], epochs=40, **options).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


def test_an_embedding_with_rows_that_no_batch_has():
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [keras.Input((5,), dtype="int32"), keras.layers.Embedding(50, 4), keras.layers.GRU(3)]
    )
    network.compile(optimizer=sfn(stochastic=True), loss="mse", jit_compile=False)
    x = np.random.default_rng(0).integers(0, 40, (64, 5))
    before = network.layers[0].get_weights()[0][40:]
    network.fit(x, np.ones((64, 3)), batch_size=16, epochs=2, verbose=0)
    np.testing.assert_allclose(network.layers[0].get_weights()[0][40:], before, atol=1e-4)
