import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.objective import objective, parameter_space, rows
from keras_sfn.preconditioner import gauss_newton

SAMPLES = 4000


def problem(loss, activation, units=2):
    """Returns an objective of a small model in float64, and its Gauss-Newton matrix."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(2, activation="tanh", dtype="float64"),
            keras.layers.Dense(units, activation=activation, dtype="float64"),
        ]
    )
    rng = np.random.default_rng(0)
    x, y = tf.constant(rng.normal(size=(5, 3))), rng.uniform(size=(5, units))
    y = tf.constant(y / y.sum(axis=1, keepdims=True))

    def loss_fn():
        outputs = model(x)
        return tf.cast(loss(y, outputs), tf.float64), outputs

    variables = model.trainable_variables
    space = parameter_space.ParameterSpace(variables)
    with tf.GradientTape() as tape:
        outputs = model(x)
    jacobian = np.concatenate(
        [
            j.numpy().reshape(5 * units, -1)
            for j in tape.jacobian(outputs, [v.value for v in variables])
        ],
        axis=1,
    )
    with tf.GradientTape() as outer:
        outer.watch(outputs)
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            value = loss(y, outputs)
        slope = tape.gradient(value, outputs)
    curvature = outer.jacobian(slope, outputs).numpy().reshape(5 * units, 5 * units)
    return objective.Objective(loss_fn, space), jacobian, curvature


def sampled(of, seed):
    sample = lambda: gauss_newton.sample(of, of.space.values(), tf.constant([0, seed]))
    return tf.function(sample, autograph=False)()


def covariance(of, jit=False):
    values = of.space.values()

    @tf.function(autograph=False, jit_compile=jit)
    def total():
        def body(index, total):
            vector = gauss_newton.sample(of, values, tf.stack([0, 16 * index]))
            return index + 1, total + vector[:, None] * vector[None, :]

        start = (tf.constant(0), tf.zeros((of.space.size, of.space.size), tf.float64))
        return tf.while_loop(lambda index, _: index < SAMPLES, body, start)[1]

    return total().numpy() / SAMPLES


def squared(y, outputs):
    return tf.reduce_mean((y - outputs) ** 2)


def binary(y, outputs):
    return tf.reduce_mean(-y * tf.math.log(outputs) - (1 - y) * tf.math.log(1 - outputs))


@pytest.mark.parametrize(
    ("loss", "activation", "jit"), [(squared, "tanh", True), (binary, "sigmoid", False)]
)
def test_covariance_is_the_gauss_newton_matrix(loss, activation, jit):
    of, jacobian, curvature = problem(loss, activation)
    expected = jacobian.T @ curvature @ jacobian
    error = np.linalg.norm(covariance(of, jit) - expected)
    # The error of a mean over so many samples is about 1 / sqrt(samples) of the trace.
    assert error < 3 * np.trace(expected) / SAMPLES**0.5


def test_of_a_curvature_with_links_between_outputs_the_diagonal_is_taken():
    def crossentropy(y, outputs):
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, outputs))

    of, jacobian, curvature = problem(crossentropy, "linear", units=3)
    expected = jacobian.T @ np.diag(np.diag(curvature)) @ jacobian
    error = np.linalg.norm(covariance(of) - expected)
    assert error < 3 * np.trace(expected) / SAMPLES**0.5


def test_the_same_seed_gives_the_same_sample():
    of, _, _ = problem(squared, "tanh")
    first, again, other = (sampled(of, seed) for seed in (1, 1, 17))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def in_parts(sizes, place_of):
    """Samples of the parts of a batch of seven rows, and that of all rows."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((11,)), keras.layers.Dense(2, "tanh", dtype="float64")])
    x = tf.constant(np.random.default_rng(0).normal(size=(7, 11)))
    space = parameter_space.ParameterSpace(model.trainable_variables)

    def of(rows, place=None):
        def loss_fn():
            outputs = model(x[rows])
            return tf.reduce_sum((outputs - 1) ** 2) / 7, outputs

        return sampled(objective.Objective(loss_fn, space, place=place), 3).numpy()

    found, start = [], 0
    for index, size in enumerate(sizes):
        found.append(of(slice(start, start + size), place_of(index, start, size)))
        start += size
    return found, of(slice(None))


@pytest.mark.parametrize("sizes", [[7], [4, 3], [1, 5, 1]])
def test_samples_of_parts_add_up_to_that_of_all_rows(sizes):
    found, whole = in_parts(sizes, lambda _, start, size: rows.Place(start, size, 7))
    np.testing.assert_allclose(sum(found), whole, rtol=1e-12)


def test_the_weight_of_a_part_is_that_of_its_variance():
    [found], whole = in_parts([7], lambda *_: rows.Place(0, 7, 7, 0.25))
    # A sum over parts multiplies it by the weight: what is left is the root.
    np.testing.assert_allclose(0.25 * found, 0.5 * whole, rtol=1e-12)


def test_replicas_of_unknown_rows_have_signs_of_their_own():
    found, _ = in_parts([3, 3], lambda index, _, size: rows.Place(index, size, None))
    (first, second), _ = in_parts([3, 3], lambda *_: rows.Place(0, 3, None))
    np.testing.assert_array_equal(found[0], first)
    assert not np.allclose(found[1], second)


def test_a_loss_that_is_linear_in_the_outputs_has_no_curvature():
    of, _, _ = problem(lambda y, outputs: tf.reduce_mean(tf.abs(y - outputs)), "tanh")
    vector = sampled(of, 0)
    np.testing.assert_array_equal(vector, 0)


def test_a_loss_of_the_parameters_alone_is_refused():
    variable = keras.Variable([1.0, 2.0])
    space = parameter_space.ParameterSpace([variable])
    loss_fn = lambda: (tf.reduce_sum(tf.convert_to_tensor(variable) ** 2), None)
    of = objective.Objective(loss_fn, space)
    with pytest.raises(ValueError, match="integer `krylov_dimension`"):
        sampled(of, 0)
