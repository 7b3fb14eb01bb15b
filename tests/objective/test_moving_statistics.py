"""Moving statistics follow the rows that were seen, in steps of ours and nowhere else."""

import inspect
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.objective import moving_statistics
from tests import strategies

layers = keras.layers


def data(rows, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(2, 3, (rows, 3)).astype(keras.config.floatx())


def ours(**options):
    return keras_sfn.SaddleFreeNewton(**{"krylov_dimension": 2, "jit_compile": False} | options)


def network(norm, optimizer=None, **compiled):
    """The normalisation sees the inputs themselves."""
    model = keras.Sequential([keras.Input((3,)), norm, layers.Dense(1)])
    model.compile(optimizer or ours(), "mse", **compiled)
    return model


def train(model, batches):
    for batch in batches:
        model.train_on_batch(batch, batch[:, :1])


def expected(batches, momentum):
    """Mean and variance by the rule, written as an average with weights that sum to one."""
    weights = np.ones(len(batches))
    for index, batch in enumerate(batches):
        decay = min(momentum, np.exp(-len(batch) / 128))
        weights[:index] *= decay
        weights[index] = 1 - decay
    weights /= weights.sum()
    return tuple(
        np.tensordot(weights, [moment(batch) for batch in batches], 1)
        for moment in (lambda batch: batch.mean(0), lambda batch: batch.var(0))
    )


def assert_statistics(norm, moments, rtol=1e-5):
    np.testing.assert_allclose(norm.moving_mean.numpy(), moments[0], rtol=rtol)
    np.testing.assert_allclose(norm.moving_variance.numpy(), moments[1], rtol=rtol)


@pytest.mark.parametrize("rows", [8, 32, 100, 640])
def test_a_constant_size_gives_the_average_without_initial_values(rows):
    norm = layers.BatchNormalization(momentum=0.9)
    batches = [data(rows, seed) for seed in range(4)]
    model = network(norm)
    train(model, batches[:1])
    assert_statistics(norm, expected(batches[:1], 0.9))
    train(model, batches[1:])
    assert_statistics(norm, expected(batches, 0.9))


@pytest.mark.parametrize(
    "options",
    [
        {"run_eagerly": True},
        pytest.param({"jit": True}, marks=pytest.mark.slow),
        pytest.param({"stochastic": True}, marks=pytest.mark.slow),
        pytest.param({"optimizer": keras_sfn.ExactSaddleFreeNewton}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_every_kind_of_step_moves_them_so(options):
    norm = layers.BatchNormalization()
    batches = [data(64, seed) for seed in range(3)]
    if "stochastic" in options:
        optimizer = keras_sfn.SaddleFreeNewton(stochastic=True, jit_compile=False)
    elif "optimizer" in options:
        optimizer = options["optimizer"]()
    else:
        optimizer = ours(jit_compile=options.get("jit", False))
    train(network(norm, optimizer, run_eagerly="run_eagerly" in options), batches)
    assert_statistics(norm, expected(batches, 0.99))


def test_each_layer_keeps_its_own_momentum():
    norms = [layers.BatchNormalization(momentum=m) for m in (0.0, 0.5, 0.99, 1.0)]
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(1)(layers.Concatenate()([n(inputs) for n in norms])))
    model.compile(ours(), "mse")
    batches = [data(64, seed) for seed in range(3)]
    train(model, batches)
    assert_statistics(norms[0], (batches[-1].mean(0), batches[-1].var(0)))
    assert_statistics(norms[1], expected(batches, 0.5))
    assert_statistics(norms[2], expected(batches, 0.99))
    assert_statistics(norms[3], (np.zeros(3), np.ones(3)))
    assert [n.momentum for n in norms] == [0.0, 0.5, 0.99, 1.0]
    assert norms[1].get_config()["momentum"] == 0.5


def test_other_optimizers_see_nothing_of_it():
    norm = layers.BatchNormalization(momentum=0.75)
    batch = data(64)
    train(network(norm, keras.optimizers.SGD(0.0)), [batch])
    mean, variance = batch.mean(0), batch.var(0)
    assert_statistics(norm, (0.25 * mean, 0.75 + 0.25 * variance))
    # Nor does a pass of a model that ours has trained, outside of a step.
    train(network(norm), [batch])
    norm.moving_mean.assign(np.zeros(3))
    norm.moving_variance.assign(np.ones(3))
    norm(batch, training=True)
    assert_statistics(norm, (0.25 * mean, 0.75 + 0.25 * variance))


def test_other_threads_see_nothing_of_it():
    norm = layers.BatchNormalization(momentum=0.75)
    found = []
    with moving_statistics.at(moving_statistics.Pace(64, 0)):
        assert float(norm.momentum) == 0
        thread = threading.Thread(target=lambda: found.append(norm.momentum))
        thread.start()
        thread.join()
    assert [*found, norm.momentum] == [0.75, 0.75]


class InInference(keras.Model):
    """Calls its normalisation in inference mode."""

    def __init__(self):
        super().__init__()
        self.norm, self.dense = layers.BatchNormalization(), layers.Dense(1)

    def call(self, inputs):
        return self.dense(self.norm(inputs, training=False))


@pytest.mark.parametrize("trainable", [True, False])
def test_frozen_layers_stay_as_they_are(trainable):
    norm = layers.BatchNormalization(trainable=False)
    model = network(norm)
    if trainable:
        model = InInference()
        model.compile(ours(), "mse")
        norm = model.norm
    train(model, [data(64)])
    assert_statistics(norm, (np.zeros(3), np.ones(3)))


@pytest.mark.skipif(
    "renorm" not in inspect.signature(layers.BatchNormalization.__init__).parameters,
    reason="this Keras has no batch renormalisation",
)
def test_renormalisation_keeps_its_own_momentum_in_training():
    norm = layers.BatchNormalization(momentum=0.9, renorm=True, renorm_momentum=0.9)
    batches = [data(64, seed) for seed in range(3)]
    train(network(norm), batches)
    weights = np.exp([-1, -0.5, 0]) / np.exp([-1, -0.5, 0]).sum()
    deviations = [np.sqrt(batch.var(0) + norm.epsilon) for batch in batches]
    deviation = np.tensordot(weights, deviations, 1)
    mean = np.tensordot(weights, [batch.mean(0) for batch in batches], 1)
    np.testing.assert_allclose(norm.moving_stddev.numpy(), deviation, rtol=1e-5)
    assert_statistics(norm, (mean, deviation**2 - norm.epsilon))
    of_keras = np.zeros(3)
    for batch in batches:
        of_keras = 0.9 * of_keras + 0.1 * batch.mean(0)
    np.testing.assert_allclose(norm.renorm_mean.numpy(), of_keras, rtol=1e-5)


def test_a_layer_that_is_called_twice_has_both_in_its_statistics():
    norm = layers.BatchNormalization()
    first, second = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([first, second], layers.Dense(1)(norm(first) + norm(second)))
    model.compile(ours(), "mse")
    left, right = data(64, 0), data(64, 1)
    model.train_on_batch([left, right], left[:, :1])
    assert_statistics(norm, [(a + b) / 2 for a, b in of_both(left, right)])
    for _ in range(60):
        model.train_on_batch([left, right], left[:, :1])
    gain = 1 - np.exp(-0.5)
    first, second = gain * (1 - gain / 2), gain / 2
    expected = [(first * a + second * b) / (first + second) for a, b in of_both(left, right)]
    assert_statistics(norm, expected, 1e-4)


def of_both(first, second):
    return zip(_moments(first), _moments(second), strict=True)


def _moments(batch):
    return batch.mean(0), batch.var(0)


def test_masked_entries_have_no_part_in_them():
    norm = layers.BatchNormalization()
    model = keras.Sequential(
        [keras.Input((4, 3)), layers.Masking(), norm, layers.GlobalAveragePooling1D()]
    )
    model.add(layers.Dense(1))
    model.compile(ours(), "mse")
    x = data(64 * 4).reshape(64, 4, 3)
    x[:, 3] = 0
    weight = np.linspace(0, 2, 64).astype("float32")
    model.train_on_batch(x, x[:, 0, :1], sample_weight=weight)
    assert_statistics(norm, _moments(x[:, :3].reshape(-1, 3)), 1e-4)


def test_double_precision(float64):
    norm = layers.BatchNormalization(momentum=0.999)
    batches = [data(64, seed) for seed in range(3)]
    train(network(norm), batches)
    assert norm.moving_mean.dtype == "float64"
    assert_statistics(norm, expected(batches, 0.999))


def test_other_dtypes_than_that_of_the_layer():
    half = layers.BatchNormalization(momentum=0.5, dtype="mixed_bfloat16")
    batches = [data(64, seed) for seed in range(2)]
    train(network(half), batches)
    assert_statistics(half, expected(batches, 0.5), 2e-2)
    # Computes in the dtype of its inputs, and so keeps its own momentum.
    double = layers.BatchNormalization(momentum=0.5, autocast=False)
    model = keras.Sequential([keras.Input((3,), dtype="float64"), double, layers.Dense(1)])
    model.compile(ours(), "mse")
    batch = batches[0].astype("float64")
    model.train_on_batch(batch, batch[:, :1].astype("float32"))
    assert_statistics(double, (batch.mean(0) / 2, 0.5 + batch.var(0) / 2))


def test_a_step_that_is_not_finite_leaves_them():
    norm = layers.BatchNormalization()
    model = network(norm)
    good, bad = data(64, 0), np.full((64, 3), np.nan, "float32")
    train(model, [good])
    with pytest.warns(RuntimeWarning, match="not finite"):
        train(model, [bad])
    assert_statistics(norm, _moments(good))


def test_a_rejected_step_moves_them():
    norm = layers.BatchNormalization()
    model = network(norm, ours(learning_rate=0.0))
    batches = [data(64, seed) for seed in range(2)]
    train(model, batches)
    assert_statistics(norm, expected(batches, 0.99))


def test_slices_count_by_all_their_rows():
    norm = layers.BatchNormalization()
    model = network(norm, ours(micro_batch_size=40))
    batch = data(100)
    train(model, [batch, batch])
    slices = [_moments(batch[:40]), _moments(batch[40:80]), _moments(batch[80:])]
    mean, variance = (
        np.average(part, axis=0, weights=[40, 40, 20]) for part in zip(*slices, strict=True)
    )
    assert_statistics(norm, (mean, variance))


def test_a_smaller_last_batch_counts_by_its_rows():
    norm = layers.BatchNormalization()
    batches = [data(320, 0), data(32, 1)]
    model = network(norm)
    train(model, batches)
    # The correction for the start takes all batches for as large as the last.
    gain = (1 - np.exp(-0.25)) / (1 - np.exp(-0.5))
    moments = [(1 - gain) * a + gain * b for a, b in of_both(*batches)]
    assert_statistics(norm, moments)


def test_saved_and_loaded_they_go_on(tmp_path):
    batches = [data(64, seed) for seed in range(4)]
    whole, halted = (network(layers.BatchNormalization()) for _ in range(2))
    train(whole, batches)
    train(halted, batches[:2])
    halted.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    train(loaded, batches[2:])
    assert loaded.layers[0].momentum == 0.99
    assert_statistics(loaded.layers[0], expected(batches, 0.99))
    assert_statistics(whole.layers[0], expected(batches, 0.99))


def test_a_loop_of_ones_own():
    norm, dense = layers.BatchNormalization(momentum=0.9), layers.Dense(1)
    model = keras.Sequential([keras.Input((3,)), norm, dense])
    batches = [data(320, seed) for seed in range(2)]
    optimizer = ours()
    for batch in batches:
        optimizer.minimize(
            lambda batch=batch: tf.reduce_mean((model(batch, training=True) - batch[:, :1]) ** 2),
            model.trainable_variables,
        )
    assert_statistics(norm, expected(batches, 0.9))


@pytest.mark.slow
def test_replicas_count_by_all_rows():
    strategy = strategies.mirrored(2)
    with strategy.scope():
        norm = layers.BatchNormalization()
        model = network(norm)
    batches = [data(64, seed) for seed in range(2)]
    for batch in batches:
        model.fit(batch, batch[:, :1], batch_size=64, verbose=0, shuffle=False)
    halves = [[_moments(batch[:32]), _moments(batch[32:])] for batch in batches]
    moments = np.mean(halves, axis=1)
    weights = np.exp([-0.5, 0]) / np.exp([-0.5, 0]).sum()
    assert_statistics(norm, np.tensordot(weights, moments, 1), 1e-4)
