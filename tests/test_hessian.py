import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn import hessian, vectors
from keras_sfn import objective as objective_lib

MODES = ["forward_over_reverse", "reverse_over_reverse", "auto"]


def model_objective(model, x, y, loss):
    model.compile("sgd", loss)

    def loss_fn():
        return model.compute_loss(x, y, model(x, training=True)), None

    return objective_lib.Objective(loss_fn, vectors.ParameterSpace(model.trainable_variables))


def current_point(objective):
    return objective.space.flatten(objective.space.values())


def difference_product(objective, point, vector, length=1e-5):
    ahead = objective.evaluation_and_gradient(point + length * vector)[1]
    behind = objective.evaluation_and_gradient(point - length * vector)[1]
    return (ahead - behind) / (2 * length)


@pytest.mark.parametrize("mode", MODES)
def test_product_with_a_quadratic_is_exact(mode, symmetric):
    matrix = symmetric([-3.0, -1.0, 0.5, 4.0])
    v = keras.Variable(np.ones(4), dtype="float64")
    loss_fn = lambda: (0.5 * tf.tensordot(v.value, tf.linalg.matvec(matrix, v.value), 1), None)
    objective = objective_lib.Objective(loss_fn, vectors.ParameterSpace([v]))
    product = hessian.hessian_vector_product(objective, current_point(objective), mode)
    vector = tf.constant([1.0, -2.0, 3.0, 0.5], "float64")
    np.testing.assert_allclose(product(vector), matrix @ vector.numpy(), rtol=1e-12)


LAYERS = {
    "batch normalization": ((3,), lambda k: [k.Dense(4), k.BatchNormalization(), k.Dense(2)]),
    "layer normalization": ((3,), lambda k: [k.Dense(4), k.LayerNormalization(), k.Dense(2)]),
    "group normalization": ((3,), lambda k: [k.Dense(4), k.GroupNormalization(2), k.Dense(2)]),
    "rms normalization": ((3,), lambda k: [k.Dense(4), k.RMSNormalization(), k.Dense(2)]),
    "unit normalization": ((3,), lambda k: [k.Dense(4), k.UnitNormalization(), k.Dense(2)]),
    "image batch normalization": (
        (4, 4, 1),
        lambda k: [k.Conv2D(2, 3), k.BatchNormalization(), k.Flatten(), k.Dense(2)],
    ),
    "dense": ((3,), lambda k: [k.Dense(4, activation="tanh"), k.Dense(2)]),
    "convolution": (
        (5, 5, 1),
        lambda k: [k.Conv2D(2, 3, activation="tanh"), k.Flatten(), k.Dense(2)],
    ),
    "embedding": ((4,), lambda k: [k.Embedding(5, 3), k.Flatten(), k.Dense(2, activation="tanh")]),
    "lstm": ((3, 2), lambda k: [k.LSTM(3), k.Dense(2)]),
    "gru": ((3, 2), lambda k: [k.GRU(3), k.Dense(2)]),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", LAYERS)
def test_product_agrees_with_differences_of_the_gradient(name):
    shape, layers = LAYERS[name]
    model = keras.Sequential([keras.Input(shape), *layers(keras.layers)])
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (6, *shape)) if name == "embedding" else rng.normal(size=(6, *shape))
    objective = model_objective(model, tf.constant(x), tf.constant(rng.normal(size=(6, 2))), "mse")
    point = current_point(objective)
    vector = tf.constant(rng.normal(size=objective.space.size))

    @tf.function(autograph=False)
    def product(at, along):
        return hessian.hessian_vector_product(objective, at, "auto")(along)

    expected = difference_product(objective, point, vector)
    error = tf.norm(product(point, vector) - expected) / tf.norm(expected)
    assert float(error) < 1e-7


@pytest.mark.parametrize("ops", [{"While"}, {"StatelessIf", "MatMul"}])
def test_auto_takes_reverse_mode_through_control_flow(ops):
    assert hessian.resolve_mode("auto", frozenset(ops)) == "reverse_over_reverse"
    assert hessian.resolve_mode("forward_over_reverse", frozenset(ops)) == "forward_over_reverse"


def test_auto_stays_open_without_control_flow():
    assert hessian.resolve_mode("auto", frozenset({"MatMul"})) == "auto"


def test_auto_falls_back_where_an_op_has_no_forward_rule():
    v = keras.Variable([1.0, 2.0])

    def loss_fn():
        # A loop has no forward rule while a graph is built.
        body = lambda i, total: (i + 1, total + tf.reduce_sum(v.value**3))
        return tf.while_loop(lambda i, _: i < 2, body, (0, 0.0))[1], None

    objective = objective_lib.Objective(loss_fn, vectors.ParameterSpace([v]))

    @tf.function(autograph=False)
    def product(vector):
        return hessian.hessian_vector_product(objective, tf.constant([1.0, 2.0]), "auto")(vector)

    np.testing.assert_allclose(product(tf.constant([1.0, 1.0])), [12, 24])


@pytest.mark.parametrize("mode", MODES)
def test_a_linear_loss_has_curvature_zero(mode):
    v = keras.Variable([1.0, 2.0])
    objective = objective_lib.Objective(
        lambda: (tf.reduce_sum(v.value), None), vectors.ParameterSpace([v])
    )
    product = hessian.hessian_vector_product(objective, tf.constant([1.0, 2.0]), mode)
    np.testing.assert_array_equal(product(tf.constant([1.0, 1.0])), [0, 0])
