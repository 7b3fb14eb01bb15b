"""The tensors in which the curvature of a loss is taken, on losses as users of Keras write them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.objective import cut, model_loss, objective, parameter_space
from tests.objective import nets

layers = keras.layers
ROWS = 20
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 6)).astype("float32")
CLASSES = RNG.integers(0, 3, ROWS)
TARGETS = RNG.normal(size=(ROWS, 3)).astype("float32")
SHARES = np.abs(TARGETS) / np.abs(TARGETS).sum(axis=1, keepdims=True)


class Penalty(layers.Layer):
    """Adds a loss of what passes through."""

    def call(self, x):
        self.add_loss(keras.ops.mean(x**2))
        return x


class SquaredResidual(keras.Model):
    """Returns squares: its loss is their mean."""

    def __init__(self):
        super().__init__()
        self.inner = network(None)

    def call(self, x):
        return (self.inner(x) - 1.0) ** 2


def network(activation, *between, regularizer=None):
    first = layers.Dense(4, "tanh", kernel_regularizer=regularizer)
    return keras.Sequential([keras.Input((6,)), first, *between, layers.Dense(3, activation)])


def sequence(*more):
    return keras.Sequential([keras.Input((6,)), layers.Reshape((6, 1)), *more])


def skip():
    inputs = keras.Input((6,))
    hidden = layers.Dense(3)(inputs)
    outputs = layers.Add()([hidden, layers.Dense(3)(keras.ops.tanh(hidden))])
    return keras.Model(inputs, keras.ops.softmax(outputs))


def variational():
    """Mean and log-variance are made into a divergence, the mean into the outputs."""
    inputs = keras.Input((6,))
    mean, log_variance = layers.Dense(2)(inputs), layers.Dense(2)(inputs)

    class Divergence(layers.Layer):
        def call(self, mean, log_variance):
            terms = keras.ops.exp(log_variance) + mean**2 - 1 - log_variance
            self.add_loss(keras.ops.mean(terms) / 2)
            return mean

    latent = Divergence()(mean, log_variance)
    return keras.Model(inputs, layers.Dense(3, "sigmoid")(latent))


NAMES = {
    "crossentropy": "sparse_categorical_crossentropy",
    "from logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
}
# Model, loss, targets; then of each tensor how many columns it has, and the op that makes it.
CASES = {
    "softmax": (lambda: network("softmax"), "crossentropy", CLASSES, [(3, "BiasAdd")]),
    "logits": (lambda: network(None), "from logits", CLASSES, [(3, "BiasAdd")]),
    "softmax, shares, regularised": (
        lambda: network("softmax", regularizer="l2"),
        "categorical_crossentropy",
        SHARES,
        [(3, "Reshape")],
    ),
    "sigmoid": (lambda: network("sigmoid"), "binary_crossentropy", SHARES, [(3, "BiasAdd")]),
    "mse": (lambda: network(None), "mse", TARGETS, [(3, "BiasAdd")]),
    "mse of a sigmoid": (lambda: network("sigmoid"), "mse", SHARES, [(3, "Sigmoid")]),
    "mae": (lambda: network(None), "mae", TARGETS, [(3, "BiasAdd")]),
    "divergence of a softmax": (
        lambda: network("softmax"),
        "kl_divergence",
        SHARES,
        [(3, "Softmax")],
    ),
    "linear in the outputs": (
        lambda: network(None),
        lambda y, outputs: keras.ops.mean(outputs),
        TARGETS,
        [(3, "BiasAdd")],
    ),
    "squared inside": (
        SquaredResidual,
        lambda y, outputs: keras.ops.mean(outputs),
        TARGETS,
        [(3, "Sub")],
    ),
    "differential equation": (nets.Laplace, "mse", np.zeros((ROWS, 1)), [(1, "AddV2")]),
    "added loss alone": (lambda: network(None, Penalty()), None, None, [(4, "Tanh")]),
    "added loss and softmax": (
        lambda: network("softmax", layers.Dense(5), Penalty()),
        "crossentropy",
        CLASSES,
        [(5, "BiasAdd"), (3, "BiasAdd")],
    ),
    "variational": (
        variational,
        "binary_crossentropy",
        SHARES,
        [(2, "BiasAdd"), (2, "BiasAdd"), (3, "BiasAdd")],
    ),
    "skip": (skip, "crossentropy", CLASSES, [(3, "AddV2")]),
    "convolution and normalisation": (
        lambda: sequence(
            layers.Conv1D(3, 2),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3, "softmax"),
        ),
        "crossentropy",
        CLASSES,
        [(3, "BiasAdd")],
    ),
    "recurrent": (
        lambda: sequence(layers.GRU(4), layers.Dense(3, "softmax")),
        "crossentropy",
        CLASSES,
        [(3, "BiasAdd")],
    ),
    "attention": (
        lambda: sequence(
            layers.Dense(4),
            layers.LayerNormalization(),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, "softmax"),
        ),
        "crossentropy",
        CLASSES,
        [(3, "BiasAdd")],
    ),
}


def found_in(loss_fn, variables):
    """Returns the tensors, as (columns, op) pairs."""
    space = parameter_space.ParameterSpace(variables)
    of = objective.Objective(loss_fn, space)
    found = []

    def trace(point):
        parameters = space.unflatten(point)
        evaluation = of.evaluate(parameters)
        found.extend(cut.find(parameters, evaluation.loss, cut.floating(evaluation.outputs)))
        return evaluation.loss

    spec = tf.TensorSpec((space.size,), space.dtype)
    tf.function(trace, autograph=False).get_concrete_function(spec)
    return [(tensor.shape[-1] if tensor.shape.rank else None, tensor.op.type) for tensor in found]


@pytest.mark.parametrize("case", CASES)
def test_models_and_losses_of_keras(case):
    make, loss, targets, expected = CASES[case]
    model = make()
    x = tf.constant(X)
    model(x)
    model.compile(loss=NAMES.get(loss, loss) if isinstance(loss, str) else loss)
    y = None if targets is None else tf.constant(targets)
    loss_fn = model_loss.batch_loss(model, x, y, None)
    found = found_in(loss_fn, model.trainable_variables)
    last = [(columns, "AddV2" if op == "Add" else op) for columns, op in found]
    assert last == expected


def test_a_loss_of_the_parameters_alone_has_none():
    v = keras.Variable([1.0, 2.0])
    assert found_in(lambda: (tf.reduce_sum(v.value**2), v.value), [v]) == []


def test_a_quadratic_form_of_the_parameters_has_none():
    v, matrix = keras.Variable(np.ones(4, "float32")), np.eye(4, dtype="float32") + 1
    loss_fn = lambda: (tf.tensordot(v.value, tf.linalg.matvec(matrix, v.value), 1), None)
    assert found_in(loss_fn, [v]) == []


def test_a_masked_parameter_is_a_parameter():
    kernel, mask = keras.Variable(np.ones((6, 3), "float32")), tf.constant(np.eye(6, 3), tf.float32)
    loss_fn = lambda: (tf.reduce_mean(tf.matmul(X, kernel.value * mask) ** 2), None)
    assert found_in(loss_fn, [kernel]) == [(3, "MatMul")]


def test_rows_of_a_table_are_looked_up():
    table = keras.Variable(np.ones((9, 3)))
    rows = tf.constant([[0, 1], [2, 8]])
    loss_fn = lambda: (tf.reduce_mean((tf.gather(table.value, rows) - 2) ** 2), None)
    assert found_in(loss_fn, [table]) == [(3, "Sub")]


def test_a_residual_written_by_hand():
    w, b = keras.Variable([[0.5]]), keras.Variable([0.1])
    inner, edge = tf.ones((9, 1)), tf.zeros((2, 1))

    def loss_fn():
        net = lambda points: tf.matmul(points, w.value) + b.value
        return tf.reduce_mean((net(inner) - 3) ** 2) + tf.reduce_mean(net(edge) ** 2), None

    assert found_in(loss_fn, [w, b]) == [(1, "Sub"), (1, "AddV2")]
