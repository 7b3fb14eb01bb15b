"""Whole trainings and steps of the optimizers with the dense Hessian, and of the baseline."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn


def problem():
    """A float64 network, data, its loss as a function of flat NumPy weights, and these."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(2)]
    )
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    weights = np.concatenate([w.ravel() for w in model.get_weights()])

    def gradient(flat):
        """By NumPy alone."""
        parts = np.split(flat, [12, 16, 24])
        first, bias, second = parts[0].reshape(3, 4), parts[1], parts[2].reshape(4, 2)
        hidden = np.tanh(x @ first + bias)
        residual = 2 * (hidden @ second + parts[3] - y) / y.size
        back = (residual @ second.T) * (1 - hidden**2)
        pieces = [x.T @ back, back.sum(axis=0), hidden.T @ residual, residual.sum(axis=0)]
        return np.concatenate([piece.ravel() for piece in pieces])

    return model, x, y, gradient, weights


def difference_hessian(gradient, weights, length=1e-5):
    rows = [
        (gradient(weights + step) - gradient(weights - step)) / (2 * length)
        for step in length * np.eye(len(weights))
    ]
    return (np.array(rows) + np.array(rows).T) / 2


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("make", "absolute"),
    [
        (lambda d: keras_sfn.ExactSaddleFreeNewton(damping=d), True),
        (
            lambda d: keras_sfn.SaddleFreeNewton(damping=d, krylov_dimension=26, jit_compile=False),
            True,
        ),
        (lambda d: keras_sfn.DampedNewton(damping=d, krylov_dimension=None), False),
        (
            lambda d: keras_sfn.DampedNewton(damping=d, krylov_dimension=26, jit_compile=False),
            False,
        ),
    ],
    ids=["exact", "krylov of all dimensions", "damped", "damped krylov"],
)
def test_a_step_is_that_of_numpy_with_a_hessian_of_differences(make, absolute):
    model, x, y, gradient, weights = problem()
    damping = 0.03
    hessian = difference_hessian(gradient, weights)
    values, vectors = np.linalg.eigh(hessian)
    assert values[0] < -1e-3
    stiffness = (np.abs(values) if absolute else values) + damping
    expected = -vectors @ ((vectors.T @ gradient(weights)) / stiffness)
    model.compile(make(damping), "mse")
    model.train_on_batch(x, y)
    step = np.concatenate([w.ravel() for w in model.get_weights()]) - weights
    assert np.linalg.norm(step - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("make", "absolute"),
    [
        (lambda d: keras_sfn.ExactSaddleFreeNewton(damping=d, inner_steps=3), True),
        (lambda d: keras_sfn.DampedNewton(krylov_dimension=None, damping=d, inner_steps=3), False),
    ],
    ids=["exact", "damped"],
)
def test_inner_steps_take_new_gradients_and_the_same_hessian(make, absolute):
    model, x, y, gradient, weights = problem()
    damping = 0.3
    values, vectors = np.linalg.eigh(difference_hessian(gradient, weights))
    stiffness = (np.abs(values) if absolute else values) + damping
    expected = weights
    for _ in range(3):
        expected = expected - vectors @ ((vectors.T @ gradient(expected)) / stiffness)
    model.compile(make(damping), "mse")
    model.train_on_batch(x, y)
    found = np.concatenate([w.ravel() for w in model.get_weights()])
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected - weights)


OPTIMIZERS = {
    "exact_saddle_free_newton": {},
    "damped_newton": {},
    "damped_newton, whole Hessian": {"krylov_dimension": None},
}


def digits_losses(digits, optimizer, epochs=6):
    keras.utils.set_random_seed(0)
    x, y = (part[:300] for part in digits)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(6, activation="tanh"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model.fit(x, y, batch_size=len(x), epochs=epochs, verbose=0).history["loss"]


@pytest.mark.slow
def test_exact_saddle_free_newton_fits_digits_by_name(digits):
    losses = digits_losses(digits, "exact_saddle_free_newton", epochs=12)
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [10, None])
def test_damped_newton_never_raises_the_loss_under_search(digits, dimension):
    losses = digits_losses(digits, keras_sfn.DampedNewton(krylov_dimension=dimension))
    assert losses[-1] < losses[0]
    assert all(later <= earlier + 1e-6 for earlier, later in itertools.pairwise(losses))


def saddle(optimizer, steps=6):
    """Steps on x^2 - y^2 + y^4 from beside the saddle at the origin; minima at y = +-0.71."""
    v = keras.Variable([0.5, 1e-3], dtype="float64")
    train = tf.function(
        lambda: optimizer.minimize(lambda: v[0] ** 2 - v[1] ** 2 + v[1] ** 4, [v]), autograph=False
    )
    for _ in range(steps):
        train()
    return v.numpy()


def test_damped_newton_is_drawn_to_a_saddle_that_saddle_free_newton_leaves():
    drawn = saddle(keras_sfn.DampedNewton(damping=1e-6, krylov_dimension=None))
    np.testing.assert_allclose(drawn, 0, atol=1e-6)
    left = saddle(keras_sfn.ExactSaddleFreeNewton(), steps=15)
    np.testing.assert_allclose(np.abs(left), [0, 0.5**0.5], atol=1e-3)


def test_the_whole_hessian_of_a_large_model_is_refused_before_the_first_step():
    v = keras.Variable(np.ones(300_000, "float32"))
    optimizer = keras_sfn.ExactSaddleFreeNewton()
    with pytest.raises(MemoryError, match=r"n = 300000 parameters.*Use `SaddleFreeNewton`"):
        optimizer.minimize(lambda: tf.reduce_sum(v**2), [v])


def test_micro_batches_and_curvature_batches_work_with_the_whole_hessian():
    results = []
    for options in ({}, {"micro_batch_size": 8}):
        model, x, y, *_ = problem()
        model.compile(keras_sfn.ExactSaddleFreeNewton(curvature_batch_size=16, **options), "mse")
        model.train_on_batch(x.astype("float32"), y)
        results.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(*results, atol=1e-4)
