"""Whole trainings with preconditioned directions."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn

OPTIONS = {"curvature_batch_size": None, "jit_compile": False}


def autoencoder(dtype="float32"):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, activation="tanh", dtype=dtype),
            keras.layers.Dense(8, dtype=dtype),
            keras.layers.Dense(32, activation="tanh", dtype=dtype),
            keras.layers.Dense(64, dtype=dtype),
        ]
    )


def train(model, x, y, steps, loss="mse", **options):
    model.compile(keras_sfn.SaddleFreeNewton(**options), loss)
    history = model.fit(x, y, batch_size=len(x), epochs=steps, shuffle=False, verbose=0)
    return history.history["loss"]


@pytest.fixture
def pixels(digits):
    return digits[0][:400]


@pytest.mark.slow
def test_two_directions_do_more_than_krylov_vectors_of_as_many_products(pixels):
    # Eleven products a step against two, and a gradient each.
    def network():
        keras.utils.set_random_seed(0)
        widths = (32, 32, 32, 10, 32, 32, 32)
        hidden = [keras.layers.Dense(n, activation=None if n == 10 else "tanh") for n in widths]
        return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(64)])

    plain = train(network(), pixels, pixels, 50, krylov_dimension=10, jit_compile=False)
    losses = train(network(), pixels, pixels, 200, **OPTIONS)
    assert losses[-1] < 0.7 * plain[-1]
    assert all(b <= a * (1 + 1e-5) for a, b in itertools.pairwise(losses))


@pytest.mark.slow
def test_a_step_is_the_same_under_xla(pixels):
    def weights(jit_compile):
        model = autoencoder("float64")
        train(model, pixels, pixels, 2, **(OPTIONS | {"jit_compile": jit_compile}))
        return np.concatenate([w.ravel() for w in model.get_weights()])

    np.testing.assert_allclose(weights(True), weights(False), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_resumes_exactly(pixels, tmp_path):
    whole = autoencoder("float64")
    losses = train(whole, pixels, pixels, 9, **OPTIONS)
    model = autoencoder("float64")
    train(model, pixels, pixels, 5, **OPTIONS)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.options_in_use["preconditioner"] == "kronecker"
    again = loaded.fit(pixels, pixels, batch_size=400, epochs=4, shuffle=False, verbose=0)
    np.testing.assert_allclose(again.history["loss"], losses[5:], rtol=1e-6)


@pytest.mark.slow
def test_eager_steps_are_those_of_the_graph(pixels):
    def weights(**compiled):
        model = autoencoder("float64")
        model.compile(keras_sfn.SaddleFreeNewton(**OPTIONS), "mse", **compiled)
        for _ in range(3):
            model.train_on_batch(pixels, pixels)
        return np.concatenate([w.ravel() for w in model.get_weights()])

    graph = weights()
    np.testing.assert_allclose(weights(run_eagerly=True), graph, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("curvature", [None, "auto"])
def test_slices_train_as_well(pixels, curvature):
    options = OPTIONS | {"curvature_batch_size": curvature}
    whole = train(autoencoder(), pixels, pixels, 20, **options)
    slices = train(autoencoder(), pixels, pixels, 20, micro_batch_size=150, **options)
    assert slices[-1] < 1.5 * whole[-1]


@pytest.mark.slow
def test_a_recurrent_net_trains_under_cross_entropy():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8)), keras.layers.SimpleRNN(16), keras.layers.Dense(10)]
    )
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 200)
    x = rng.normal(size=(200, 8, 8)) * 0.1
    x[np.arange(200), 2, y % 8] += 1 + y // 8
    losses = train(
        model, x, y, 40, keras.losses.SparseCategoricalCrossentropy(from_logits=True), **OPTIONS
    )
    assert losses[-1] < 0.2 * losses[0]


def test_an_absolute_error_whose_outputs_have_no_curvature_trains(pixels):
    losses = train(autoencoder(), pixels, pixels, 10, "mae", **OPTIONS)
    assert losses[-1] < losses[0]


def recurrent():
    return keras.Sequential([keras.Input((6, 4)), keras.layers.SimpleRNN(3), keras.layers.Dense(1)])


def feed_forward():
    layers = [keras.layers.Flatten(), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((6, 4)), *layers])


class OwnLoss(keras.Model):
    """Has no loss but one that it adds itself, of the values of a hidden layer."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs):
        self.add_loss(keras.ops.mean((self.dense(inputs[:, 0]) - 1) ** 2))
        return inputs[:, 0, :1]


class OfWeights(keras.Model):
    """Has no loss but one of its weights."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, kernel_regularizer="l2")

    def call(self, inputs):
        self.dense(inputs)
        return inputs[:, 0, :1]


@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize(
    ("build", "preconditioner", "directions", "dimension"),
    [
        (feed_forward, "kronecker", 1, None),
        (recurrent, "kronecker", 3, None),
        (OwnLoss, "kronecker", 1, None),
        (OfWeights, None, None, 10),
    ],
)
def test_the_first_step_decides_what_auto_stands_for(
    build, preconditioner, directions, dimension, eagerly
):
    model = build()
    model.compile("saddle_free_newton", "mse", run_eagerly=eagerly)
    rng = np.random.default_rng(0)
    model.train_on_batch(rng.normal(size=(20, 6, 4)), rng.normal(size=(20, 1)))
    used = model.optimizer.options_in_use
    names = ("preconditioner", "preconditioned_directions", "krylov_dimension")
    assert tuple(used[name] for name in names) == (preconditioner, directions, dimension)


def test_a_loss_of_the_parameters_alone_takes_a_plain_krylov_space():
    variable = keras.Variable([1.0, 2.0])
    optimizer = keras_sfn.SaddleFreeNewton()
    optimizer.minimize(lambda: tf.reduce_sum(tf.convert_to_tensor(variable) ** 2), [variable])
    assert optimizer.options_in_use["krylov_dimension"] == 10
    np.testing.assert_allclose(variable.numpy(), 0, atol=1e-2)


@pytest.mark.slow
def test_by_default_the_curvature_is_that_of_a_part_of_the_rows(digits):
    x, y = digits[0][:1200], digits[0][:1200, :3]

    def weights(x, y, **options):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(4, "tanh")])
        model.add(keras.layers.Dense(3))
        model.compile(keras_sfn.SaddleFreeNewton(jit_compile=False, **options), "mse")
        for _ in range(2):
            model.train_on_batch(x, y)
        share = model.optimizer.last_step.curvature_share
        return np.concatenate([w.ravel() for w in model.get_weights()]), share

    default, share = weights(x, y)
    assert share == 1 / 16
    one = {"preconditioned_directions": 1}
    # Eigenvalues of more rows than there are round in another way.
    np.testing.assert_allclose(default, weights(x, y, **one)[0], rtol=1e-5, atol=1e-6)
    for rows, expected in ((None, 1), (300, np.nan)):
        others, share = weights(x, y, curvature_batch_size=rows, **one)
        np.testing.assert_equal(share, expected)
        assert not np.allclose(default, others)


@pytest.mark.slow
def test_minimize_after_fit_goes_on_and_a_loss_without_rows_is_refused(pixels):
    # Its first step was preconditioned: all later ones are of that kind.
    model = autoencoder()
    losses = train(model, pixels, pixels, 1, **OPTIONS)
    optimizer, variables = model.optimizer, model.trainable_variables
    after = optimizer.minimize(lambda: tf.reduce_mean((model(pixels) - pixels) ** 2), variables)
    assert float(after) < losses[0]
    of_weights = lambda: tf.add_n([tf.reduce_sum(v.value**2) for v in variables])
    with pytest.raises(ValueError, match="integer `krylov_dimension`"):
        optimizer.minimize(of_weights, variables)
