"""Residuals of differential equations, written in the ways in which users write them."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_sfn

pytestmark = pytest.mark.usefixtures("float64")

RNG = np.random.default_rng(0)
INSIDE = RNG.uniform(size=(24, 2))
EDGE = np.array([[x, y] for x in (0.0, 1.0) for y in np.linspace(0, 1, 5)])


def network():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((2,)), *layers])


def by_persistent_tape(net, points):
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(points)
        with tf.GradientTape() as inner:
            inner.watch(points)
            u = net(points)
        slope = inner.gradient(u, points)
        u_x, u_y = slope[:, :1], slope[:, 1:]
    return outer.gradient(u_x, points)[:, :1] + outer.gradient(u_y, points)[:, 1:]


def by_columns(net, points):
    """As DeepXDE and many scripts do: a tensor a coordinate."""
    x, y = points[:, :1], points[:, 1:]
    with tf.GradientTape(persistent=True) as outer:
        outer.watch([x, y])
        with tf.GradientTape(persistent=True) as inner:
            inner.watch([x, y])
            u = net(tf.concat([x, y], axis=1))
        u_x, u_y = inner.gradient(u, x), inner.gradient(u, y)
    return outer.gradient(u_x, x) + outer.gradient(u_y, y)


def by_batch_jacobian(net, points):
    with tf.GradientTape() as outer:
        outer.watch(points)
        with tf.GradientTape() as inner:
            inner.watch(points)
            u = net(points)
        slope = inner.gradient(u, points)
    return tf.linalg.trace(outer.batch_jacobian(slope, points))[:, None]


def by_forward_mode(net, points):
    total = 0
    for i in range(2):
        along = tf.zeros_like(points) + tf.one_hot(i, 2, dtype=points.dtype)
        with tf.autodiff.ForwardAccumulator(points, along) as outer:
            with tf.autodiff.ForwardAccumulator(points, along) as inner:
                u = net(points)
            slope = inner.jvp(u)
        total += outer.jvp(slope)
    return total


def by_keras_ops(net, points):
    """By hand through the layers."""
    first, last = net.layers
    hidden = ops.tanh(ops.matmul(points, first.kernel) + first.bias)
    bend = -2 * hidden * (1 - hidden**2)
    squares = ops.sum(first.kernel**2, axis=0)
    return ops.matmul(bend * squares, last.kernel)


LAPLACIANS = {
    "a persistent tape": by_persistent_tape,
    "a tensor a coordinate": by_columns,
    "batch_jacobian": by_batch_jacobian,
    "forward mode": by_forward_mode,
    "keras.ops by hand": by_keras_ops,
}


def residual(laplacian, net, points):
    waves = ops.sin(math.pi * points[:, :1]) * ops.sin(math.pi * points[:, 1:])
    return laplacian(net, points) + 2 * math.pi**2 * waves


def loss_function(laplacian, net, weights=(0.5, 10.0)):
    """Two terms with weights, on points of different numbers."""
    inside, edge = tf.constant(INSIDE), tf.constant(EDGE)

    def loss_fn():
        terms = residual(laplacian, net, inside), net(edge)
        return sum(w * tf.reduce_mean(t**2) for w, t in zip(weights, terms, strict=True))

    return loss_fn


@pytest.mark.parametrize("name", LAPLACIANS)
def test_curvature_agrees_with_differences_of_the_gradient(name):
    net = network()
    operator = keras_sfn.HessianOperator(
        loss_function(LAPLACIANS[name], net), net.trainable_variables, jit_compile=False
    )
    vector = np.random.default_rng(1).normal(size=operator.shape[0])
    start = [v.numpy() for v in net.trainable_variables]
    ends = np.cumsum([w.size for w in start])[:-1]
    gradients = []
    for sign in (1, -1):
        for v, w, part in zip(net.trainable_variables, start, np.split(vector, ends), strict=True):
            v.assign(w + sign * 1e-5 * part.reshape(w.shape))
        gradients.append(operator.gradient().numpy())
    for v, w in zip(net.trainable_variables, start, strict=True):
        v.assign(w)
    expected = (gradients[0] - gradients[1]) / 2e-5
    error = np.linalg.norm(operator.matvec(vector) - expected) / np.linalg.norm(expected)
    assert error < 1e-7


def test_all_ways_are_one_loss():
    net = network()
    losses = [float(loss_function(way, net)()) for way in LAPLACIANS.values()]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-12)


def losses_of(optimizer, name, steps=12):
    net = network()
    loss_fn = loss_function(LAPLACIANS[name], net)
    step = tf.function(lambda: optimizer.minimize(loss_fn, net.trainable_variables))
    losses = [float(step()) for _ in range(steps)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(losses))
    return losses


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "keras.ops by hand" else pytest.mark.slow)
        for name in LAPLACIANS
        if name != "forward mode"
    ],
)
def test_minimize_takes_preconditioned_steps(name):
    optimizer = keras_sfn.SaddleFreeNewton(jit_compile=False)
    losses = losses_of(optimizer, name)
    assert optimizer.options_in_use["preconditioner"] == "kronecker"
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_nested_forward_mode_is_refused_with_what_to_use_instead():
    with pytest.raises(
        NotImplementedError, match=r"by `tf.GradientTape`, or set `krylov_dimension"
    ):
        losses_of(keras_sfn.SaddleFreeNewton(jit_compile=False), "forward mode", steps=1)


class Residuals(keras.Model):
    """Points inside and on the edge -> the residual, and the values on the edge."""

    def __init__(self):
        super().__init__()
        self.net = network()
        self.built = True

    def call(self, points):
        inside, edge = points
        return residual(by_persistent_tape, self.net, inside), self.net(edge)


@pytest.mark.slow
def test_fit_with_two_outputs_and_points_of_different_numbers():
    model = Residuals()
    model.compile(
        keras_sfn.SaddleFreeNewton(jit_compile=False), loss=["mse", "mse"], loss_weights=[0.5, 10.0]
    )
    targets = np.zeros((len(INSIDE), 1)), np.zeros((len(EDGE), 1))
    batch = tf.data.Dataset.from_tensors(((INSIDE, EDGE), targets))
    losses = model.fit(batch, epochs=12, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(float(loss_function(by_columns, network())()), rel=1e-9)
    assert model.optimizer.options_in_use["preconditioner"] == "kronecker"
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_points_that_change_are_arguments_of_the_step():
    net = network()
    optimizer = keras_sfn.SaddleFreeNewton(jit_compile=False)
    traces = []

    @tf.function
    def step(inside, edge):
        traces.append(1)

        def loss_fn():
            return tf.reduce_mean(residual(by_persistent_tape, net, inside) ** 2) + tf.reduce_mean(
                net(edge) ** 2
            )

        return optimizer.minimize(loss_fn, net.trainable_variables)

    generator = np.random.default_rng(2)
    for _ in range(4):
        step(tf.constant(generator.uniform(size=(24, 2))), tf.constant(EDGE))
        assert optimizer.last_step.outcome == "accepted"
    assert len(traces) <= 2


class Softsign(keras.layers.Layer):
    """An activation whose op TensorFlow can differentiate once."""

    def call(self, inputs):
        return tf.raw_ops.Softsign(features=inputs)


def rough_network():
    layers = [keras.layers.Dense(3), Softsign(name="rough"), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((2,)), *layers], name="net")


def slope(net, points):
    with tf.GradientTape() as tape:
        tape.watch(points)
        u = net(points)
    return tape.gradient(u, points)[:, :1]


@pytest.mark.parametrize(
    ("derivative", "layer"), [(slope, r"\w+/rough\w*"), (by_persistent_tape, "the loss")]
)
def test_a_residual_that_cannot_be_differentiated_further_is_refused_by_name(derivative, layer):
    net = rough_network()
    optimizer = keras_sfn.SaddleFreeNewton()
    before = [v.numpy() for v in net.trainable_variables]
    points = tf.constant(INSIDE)
    step = tf.function(
        lambda: optimizer.minimize(
            lambda: tf.reduce_mean(derivative(net, points) ** 2), net.trainable_variables
        )
    )
    with pytest.raises(NotImplementedError, match=f"op SoftsignGrad, in `{layer}`. Instead, use"):
        step()
    for v, w in zip(net.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(v.numpy(), w)


def test_other_errors_of_a_loss_are_its_own():
    v = keras.Variable([1.0])
    with pytest.raises(KeyError, match="missing"):
        keras_sfn.HessianOperator(lambda: tf.reduce_sum(v**2) + {}["missing"], [v])
