import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.curvature import products
from keras_sfn.objective import batches, micro_batches, parameter_space
from keras_sfn.objective import objective as objective_lib

pytestmark = pytest.mark.slow

ROWS = 22


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 6)).astype("float32")
    return x, np.tanh(x[:, :2] * x[:, 2:4]), rng.uniform(0.5, 2, ROWS).astype("float32")


def network(*layers, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, activation="tanh", kernel_regularizer="l2"),
            *layers,
            keras.layers.Dense(2),
        ]
    )
    fit = {key: options.pop(key) for key in ("run_eagerly", "loss") if key in options}
    options = {"jit_compile": False} | options
    optimizer = keras_sfn.SaddleFreeNewton(krylov_dimension=4, **options)
    model.compile(optimizer, fit.pop("loss", "mse"), metrics=["mae"], **fit)
    return model


def trained(batch_size=ROWS, layers=(), **options):
    model = network(*layers, **options)
    x, y, weights = data()
    history = model.fit(
        x, y, batch_size, epochs=2, sample_weight=weights, shuffle=False, verbose=0
    ).history
    return [*history["loss"], *history["mae"]], model.get_weights()


def assert_same(first, second, atol=2e-5):
    np.testing.assert_allclose(first[0], second[0], rtol=1e-5)
    for ours, theirs in zip(first[1], second[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol)


@pytest.fixture(scope="module")
def whole():
    """A training without slices."""
    return trained()


@pytest.mark.parametrize("size", [ROWS // 2, 8, 1, 100])
def test_slices_give_the_step_of_the_whole_batch(size, whole):
    assert_same(trained(micro_batch_size=size), whole)


@pytest.mark.parametrize(
    "options",
    [
        {"jit_compile": True},
        {"batch_size": 12},  # A last batch that is smaller, and of one slice with a rest.
        {"batch_size": 18},  # A last batch that is smaller than a slice.
        {"curvature_batch_size": 12},
        {"inner_steps": 2},
        {"run_eagerly": True},
        {"hvp_mode": "reverse_over_reverse"},
    ],
    ids=str,
)
def test_with_other_options(options):
    assert_same(trained(micro_batch_size=8, **options), trained(**options))


def test_recurrent_and_convolutional_layers():
    k = keras.layers
    results = []
    for size in (8, None):
        keras.utils.set_random_seed(0)
        layers = k.Reshape((5, 1)), k.Conv1D(2, 2), k.GRU(3)
        results.append(trained(layers=layers, micro_batch_size=size))
    assert_same(*results, atol=1e-4)


def space_and_point():
    v = keras.Variable([0.5, -0.2, 0.1], dtype="float64")
    space = parameter_space.ParameterSpace([v])
    return v, space, tf.constant([0.5, -0.2, 0.1], "float64")


@pytest.mark.parametrize("size", [1, 3, 5, 10])
def test_loss_gradient_product_and_outputs_are_those_of_the_whole(size):
    v, space, point = space_and_point()
    x = tf.constant(np.random.default_rng(0).normal(size=(10, 3)))

    def loss_of(part):
        def loss_fn():
            out = tf.linalg.matvec(part["x"], v.value)
            return tf.reduce_mean(out**4) + tf.reduce_sum(v.value**2), {"out": out[:, None]}

        return loss_fn

    micro = batches.Batch({"x": x, "none": None}, loss_of, space, slice_rows=size).whole()
    whole = objective_lib.Objective(loss_of({"x": x}), space)
    assert isinstance(micro, micro_batches.MicroBatches) == (size < 10)
    np.testing.assert_allclose(micro.loss(point), whole.loss(point), rtol=1e-12)
    np.testing.assert_allclose(micro.gradient(point), whole.gradient(point), rtol=1e-12)
    ours, gradient = micro.evaluation_and_gradient(point)
    theirs, _ = whole.evaluation_and_gradient(point)
    np.testing.assert_allclose(gradient, whole.gradient(point), rtol=1e-12)
    np.testing.assert_allclose(ours.outputs["out"], theirs.outputs["out"], rtol=1e-12)
    vector = tf.constant([1.0, 2.0, -1.0], "float64")
    found = [
        products.hessian_vector_product(objective, point, mode)(vector)
        for objective in (micro, whole)
        for mode in ("forward_over_reverse", "reverse_over_reverse")
    ]
    for product in found:
        np.testing.assert_allclose(product, found[-1], rtol=1e-12)


def test_batch_normalization_sees_its_slice_and_its_statistics_move_once():
    model = network(keras.layers.BatchNormalization(momentum=0.5), micro_batch_size=11)
    first, norm = model.layers[0], model.layers[1]
    x, y, _ = data()
    features = first(x).numpy()
    model.train_on_batch(x, y)
    means = [features[:11].mean(axis=0), features[11:].mean(axis=0)]
    np.testing.assert_allclose(norm.moving_mean.numpy(), np.mean(means, 0), rtol=1e-4)
    variances = [features[:11].var(axis=0), features[11:].var(axis=0)]
    np.testing.assert_allclose(norm.moving_variance.numpy(), np.mean(variances, 0), rtol=1e-4)


def test_each_slice_has_a_dropout_mask_of_its_own_and_keeps_it_for_the_step():
    v, space, point = space_and_point()
    dropout = keras.layers.Dropout(0.5, seed=3, dtype="float64")
    ones = tf.ones((4, 50), "float64")

    def loss_of(part):
        def loss_fn():
            out = dropout(part, training=True) * v.value[0]
            return tf.reduce_mean(out**2), out

        return loss_fn

    batch = batches.Batch(ones, loss_of, space, slice_rows=1)
    assert len(batch.traced.outputs.shape) == 2
    assert len(batch.example.seed_generators) == 1
    batch.reseed(tf.constant([7, 0], "int64"))
    micro = batch.whole()
    first = micro.evaluation_and_gradient(point)[0].outputs.numpy()
    assert len({row.tobytes() for row in first}) == 4
    np.testing.assert_array_equal(micro.evaluation_and_gradient(point)[0].outputs, first)
    np.testing.assert_allclose(micro.loss(point), np.mean(first**2), rtol=1e-12)


def test_dropout_lowers_the_loss_of_its_masks():
    losses, _ = trained(layers=(keras.layers.Dropout(0.3),), micro_batch_size=8)
    assert np.isfinite(losses).all()
    assert losses[1] < losses[0]


@pytest.mark.parametrize("reduction", ["sum", "mean_with_sample_weight"])
def test_losses_that_are_no_means_over_rows_are_refused(reduction):
    loss = keras.losses.MeanSquaredError(reduction=reduction)
    model = network(loss=loss, micro_batch_size=8)
    x, y, _ = data()
    with pytest.raises(ValueError, match=f"`micro_batch_size` needs losses.*'{reduction}'"):
        model.fit(x, y, verbose=0)


def test_stop_gradient_is_refused():
    stop = keras.layers.Lambda(lambda z: z * keras.ops.stop_gradient(z))
    model = network(stop, micro_batch_size=8)
    x, y, _ = data()
    with pytest.raises(NotImplementedError, match=r"`micro_batch_size` cannot.*stop_gradient"):
        model.fit(x, y, verbose=0)


def test_minimize_does_not_know_rows():
    v = keras.Variable([1.0])
    optimizer = keras_sfn.SaddleFreeNewton(micro_batch_size=8)
    with pytest.raises(ValueError, match=r"`micro_batch_size` needs `model\.fit`"):
        optimizer.minimize(lambda: tf.reduce_sum(v**2), [v])


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_sizes_out_of_range_are_refused(size):
    with pytest.raises(ValueError, match="`micro_batch_size` must be an integer >= 1 or None"):
        keras_sfn.SaddleFreeNewton(micro_batch_size=size)


_PEAKS = """
import gc, os, sys
# Only this allocator counts bytes; on some processors it is not the default.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
import keras, numpy as np, tensorflow as tf, keras_sfn
x = np.random.default_rng(0).normal(size=(12000, 16)).astype("float32")
memory = lambda: tf.config.experimental.get_memory_info("CPU:0")
for size in sys.argv[1:]:
    before = memory()["current"]
    model = keras.Sequential(
        [keras.Input((16,)), keras.layers.Dense(3000, activation="tanh"), keras.layers.Dense(1)]
    )
    optimizer = keras_sfn.SaddleFreeNewton(krylov_dimension=2, micro_batch_size=int(size) or None)
    model.compile(optimizer, "mse")
    # What TensorFlow allocates; the process's own peak has the compiler's memory in it.
    tf.config.experimental.reset_memory_stats("CPU:0")
    model.train_on_batch(x, x[:, :1])
    print((memory()["peak"] - before) // 2**20)
    del model, optimizer
    keras.utils.clear_session()
    gc.collect()
"""


def test_peak_memory_is_that_of_a_slice(optimized_code):
    """One layer's activations for all rows take 137 MiB, for a slice 6 MiB."""
    command = [sys.executable, "-c", _PEAKS, "0", "500"]
    whole, slices = subprocess.check_output(command, text=True).splitlines()
    assert int(whole) > 400
    assert int(slices) < 100
