"""Every activation and every loss that Keras exports has the right Hessian, or is refused.

The names are read from the installed Keras, so one that a new release adds is tested without being
listed here.
"""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn import hessian, vectors
from keras_sfn import objective as objective_lib

pytestmark = pytest.mark.usefixtures("float64")

ACTIVATIONS = sorted(
    name
    for name, value in inspect.getmembers(keras.activations, inspect.isfunction)
    if name not in {"deserialize", "get", "serialize"}
)
LOSSES = sorted(
    name
    for name, value in inspect.getmembers(keras.losses, inspect.isclass)
    if issubclass(value, keras.losses.Loss) and value is not keras.losses.Loss
)

# Refused with an error, never silently wrong: no op of these has a second derivative.
REFUSED = {"CTC"}


def relative_error(loss_fn, variables, length=1e-6):
    """Error of a compiled product against central differences of the gradient."""
    objective = objective_lib.Objective(
        lambda: (loss_fn(), None), vectors.ParameterSpace(variables)
    )
    space = objective.space
    point = space.flatten(space.values())
    rng = np.random.default_rng(0)
    along = tf.constant(rng.normal(size=space.size))

    @tf.function(autograph=False)
    def product():
        return hessian.hessian_vector_product(objective, point, "auto")(along)

    ahead = objective.evaluation_and_gradient(point + length * along)[1]
    behind = objective.evaluation_and_gradient(point - length * along)[1]
    expected = (ahead - behind) / (2 * length)
    return float(tf.norm(product() - expected) / tf.norm(expected))


# Those that need more than one argument.
ARGUMENTS = {"threshold": {"threshold": 0.3, "default_value": 0.1}}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    activation = getattr(keras.activations, name)
    arguments = ARGUMENTS.get(name, {})
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, activation="tanh"),
            keras.layers.Lambda(lambda z: activation(z, **arguments)),
            keras.layers.Dense(2),
        ]
    )
    rng = np.random.default_rng(1)
    x, y = tf.constant(rng.normal(size=(8, 4))), tf.constant(rng.normal(size=(8, 2)))
    loss_fn = lambda: tf.reduce_mean((model(x) - y) ** 4)
    assert relative_error(loss_fn, model.trainable_variables) < 1e-6


def targets(name, rng):
    """Targets of shape (8, 4) and the activation of the output that this loss expects."""
    if name in {"SparseCategoricalCrossentropy", "CategoricalGeneralizedCrossEntropy"}:
        return rng.integers(0, 4, (8,)), "softmax"
    if name == "Circle":
        return rng.integers(0, 3, (8,)), lambda z: z / tf.norm(z, axis=-1, keepdims=True)
    if (
        "Crossentropy" in name
        or "CrossEntropy" in name
        or name in {"KLDivergence", "Dice", "Tversky"}
    ):
        binary = name.startswith("Binary")
        hot = np.eye(4)[rng.integers(0, 4, 8)]
        return hot, "sigmoid" if binary else "softmax"
    if "Hinge" in name:
        return np.where(np.eye(4)[rng.integers(0, 4, 8)] > 0, 1.0, -1.0), None
    if name in {"Poisson", "MeanSquaredLogarithmicError"}:
        return rng.uniform(1, 2, (8, 4)), "softplus"
    return rng.normal(size=(8, 4)), None


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in REFUSED])
def test_losses(name):
    rng = np.random.default_rng(1)
    y, activation = targets(name, rng)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(4, activation=activation),
        ]
    )
    x, loss = tf.constant(rng.normal(size=(8, 3))), getattr(keras.losses, name)()
    loss_fn = lambda: loss(tf.constant(y), model(x))
    assert relative_error(loss_fn, model.trainable_variables) < 1e-5


def test_ctc_is_refused():
    model = keras.Sequential([keras.Input((6, 3)), keras.layers.Dense(4)])
    model.compile("saddle_free_newton", keras.losses.CTC())
    rng = np.random.default_rng(0)
    with pytest.raises(NotImplementedError, match=r"no right second derivative.*CTCLoss"):
        model.fit(rng.normal(size=(2, 6, 3)), rng.integers(1, 4, (2, 2)), verbose=0)
