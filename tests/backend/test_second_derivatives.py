import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.backend import second_derivatives


def second_derivative(x, axes):
    """Derivative of d variance / dx along ones: zero, since a shift leaves the variance."""
    x = tf.constant(x)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            _, variance = tf.nn.moments(x, axes)
        gradient = inner.gradient(variance, x)
    return outer.gradient(gradient, x).numpy()


def test_tensorflow_own_moments_lose_a_part_and_exact_ones_do_not():
    x = np.random.default_rng(0).normal(size=(6, 2))
    assert np.abs(second_derivative(x, [0])).min() > 0.1
    with second_derivatives.exact():
        np.testing.assert_allclose(second_derivative(x, [0]), 0, atol=1e-12)
    assert np.abs(second_derivative(x, [0])).min() > 0.1


@pytest.mark.parametrize("axes", [[0], [1], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_moments_are_those_of_tensorflow(axes, keepdims, dtype):
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 3, 5)), dtype)
    expected = tf.nn.moments(x, axes, keepdims=keepdims)
    with second_derivatives.exact():
        got = tf.nn.moments(x, axes, keepdims=keepdims)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(ours, theirs)


def test_other_threads_keep_tensorflow_own():
    x, seen = np.random.default_rng(0).normal(size=(6, 2)), []
    with second_derivatives.exact():
        thread = threading.Thread(target=lambda: seen.append(second_derivative(x, [0])))
        thread.start()
        thread.join()
    assert np.abs(seen[0]).min() > 0.1


def test_nesting_and_errors_leave_the_switch_as_it_was():
    x = np.random.default_rng(0).normal(size=(6, 2))
    with second_derivatives.exact():
        with pytest.raises(ZeroDivisionError), second_derivatives.exact():
            raise ZeroDivisionError
        np.testing.assert_allclose(second_derivative(x, [0]), 0, atol=1e-12)
    assert np.abs(second_derivative(x, [0])).min() > 0.1


def test_installing_twice_wraps_once():
    wrapped = tf.nn.moments
    second_derivatives.install()
    assert tf.nn.moments is wrapped


METHODS = ["bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian"]


def hessian_vector(function, x, v):
    with tf.autodiff.ForwardAccumulator(x, v) as accumulator:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = function(x)
        gradient = tape.gradient(loss, x)
    return accumulator.jvp(gradient, unconnected_gradients="zero")


@pytest.mark.parametrize("method", [*METHODS, "mitchellcubic"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(10, 14), (3, 4), (8, 7)])
def test_resized_images_are_those_of_tensorflow(method, antialias, size):
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 5, 7, 3)), "float32")
    expected = tf.image.resize(x, size, method, antialias=antialias)
    with second_derivatives.exact():
        got = tf.image.resize(x, size, method, antialias=antialias)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(5, 7, 3), (2, None, None, 3)])
def test_one_image_and_images_of_a_size_unknown_while_tracing(shape):
    x = tf.constant(np.random.default_rng(0).normal(size=[n or 6 for n in shape]), "float32")

    @tf.function(input_signature=[tf.TensorSpec(shape)])
    def resize(x):
        with second_derivatives.exact():
            return tf.image.resize(x, (9, 4))

    np.testing.assert_allclose(resize(x), tf.image.resize(x, (9, 4)), atol=1e-6)


def test_integer_images_and_kept_aspect_ratios_go_to_tensorflow():
    x = tf.constant(np.arange(36).reshape(1, 6, 6, 1))
    with second_derivatives.exact():
        got = tf.image.resize(x, (3, 3), "nearest")
        kept = tf.image.resize(tf.cast(x, "float32"), (3, 9), preserve_aspect_ratio=True)
    np.testing.assert_array_equal(got, tf.image.resize(x, (3, 3), "nearest"))
    assert kept.shape == (1, 3, 3, 1)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "area"])
def test_second_derivative_of_resizing(method):
    """The loss is a sum of fourth powers of a linear map: H v = 12 A' (A x)^2 A v."""
    rng = np.random.default_rng(0)
    x, v = (tf.constant(rng.normal(size=(1, 5, 7, 1)), "float32") for _ in range(2))
    resize = lambda z: tf.image.resize(z, (8, 9), method)
    with second_derivatives.exact():
        got = hessian_vector(lambda z: tf.reduce_sum(resize(z) ** 4), x, v)
    with tf.GradientTape() as tape:  # One derivative of TensorFlow's own resizing is right.
        tape.watch(x)
        inner = tf.reduce_sum(resize(x) * tf.stop_gradient(12 * resize(x) ** 2 * resize(v)))
    np.testing.assert_allclose(got, tape.gradient(inner, x), rtol=1e-3, atol=1e-3)


def test_second_derivative_of_softsign():
    x = tf.constant([-2.0, -0.5, 0.25, 3.0])
    np.testing.assert_allclose(tf.nn.softsign(x), x / (1 + tf.abs(x)), rtol=1e-6)
    with second_derivatives.exact():
        np.testing.assert_allclose(tf.nn.softsign(x), x / (1 + tf.abs(x)), rtol=1e-6)
        got = hessian_vector(lambda z: tf.reduce_sum(tf.nn.softsign(z)), x, tf.ones(4))
    np.testing.assert_allclose(got, -2 * np.sign(x) / (1 + np.abs(x)) ** 3, rtol=1e-5)


def test_stop_gradient_keeps_the_values_of_the_evaluation_that_holds():
    constants = second_derivatives.Constants()

    def evaluate(x, hold):
        constants.start(hold)
        with second_derivatives.exact(constants):
            return float(x * tf.stop_gradient(x) + keras.ops.stop_gradient(2 * x))

    assert evaluate(tf.constant(5.0), hold=False) == 35  # Nothing is held yet.
    assert evaluate(tf.constant(3.0), hold=True) == 15
    assert evaluate(tf.constant(1.0), hold=False) == 9
    assert evaluate(tf.constant(2.0), hold=True) == 8
    assert evaluate(tf.constant(1.0), hold=False) == 6
    assert float(tf.stop_gradient(tf.constant(7.0))) == 7


def test_held_values_reach_into_loops_and_those_of_loops_are_not_held():
    constants = second_derivatives.Constants()

    def evaluate(x, hold):
        constants.start(hold)
        with second_derivatives.exact(constants):
            outside = tf.stop_gradient(x)
            body = lambda i, y: (i + 1, y + tf.stop_gradient(x))
            return outside + tf.while_loop(lambda i, _: i < 2, body, (0, 0 * x))[1]

    @tf.function(autograph=False)
    def both():
        evaluate(tf.constant(3.0), hold=True)
        body = lambda i, _: (i + 1, evaluate(tf.constant(1.0), hold=False))
        return tf.while_loop(lambda i, _: i < 1, body, (0, 0.0))[1]

    assert float(both()) == 3 + 2


def test_stopped_values_of_another_shape_are_refused():
    constants = second_derivatives.Constants()
    with second_derivatives.exact(constants):
        constants.start(hold=True)
        tf.stop_gradient(tf.ones(3))
        constants.start(hold=False)
        with pytest.raises(ValueError, match="same order at every evaluation"):
            tf.stop_gradient(tf.ones(2))


def adam_losses():
    """Training by Adam of a model with everything that is replaced under `exact`."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            keras.layers.Conv2D(4, 2, activation="softsign"),
            keras.layers.UpSampling2D(interpolation="bilinear"),
            keras.layers.BatchNormalization(),
            keras.layers.LayerNormalization(),
            keras.layers.Lambda(lambda x: x * tf.stop_gradient(x)),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    x = np.random.default_rng(0).normal(size=(16, 4, 4, 2)).astype("float32")
    losses = model.fit(x, x[:, 0, 0, :1], epochs=3, verbose=0, shuffle=False).history["loss"]
    return losses, model.get_weights()


def test_a_model_trained_by_adam_before_during_and_after_is_untouched():
    before, during = adam_losses(), []
    with second_derivatives.exact():
        # Traced and trained while the replacements are in force in this thread.
        thread = threading.Thread(target=lambda: during.append(adam_losses()))
        thread.start()
        thread.join()
    after = adam_losses()
    for losses, weights in (*during, after):
        assert losses == before[0]
        for ours, theirs in zip(weights, before[1], strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("jit", [False, True])
def test_slices_inside_derivatives_are_differentiated_again_under_xla(jit):
    """As in residuals of differential equations: derivatives of a network by its inputs."""

    def loss(w, points):
        x, y = points[:, :1], points[:, 1:]
        with tf.GradientTape() as tape:
            tape.watch([x, y])
            u = tf.tanh(tf.matmul(tf.concat([x, y], axis=1), w))
        along_x, along_y = tape.gradient(u, [x, y])
        return tf.reduce_sum((along_x - along_y[::-1]) ** 2)

    @tf.function(autograph=False, jit_compile=jit)
    def hessian_product(w, points, along):
        with tf.autodiff.ForwardAccumulator(w, along) as accumulator:
            with tf.GradientTape() as tape:
                tape.watch(w)
                value = loss(w, points)
            gradient = tape.gradient(value, w)
        return gradient, accumulator.jvp(gradient)

    rng = np.random.default_rng(0)
    w, points, along = rng.normal(size=(2, 3)), rng.normal(size=(5, 2)), rng.normal(size=(2, 3))
    _, product = hessian_product(tf.constant(w), tf.constant(points), tf.constant(along))
    ahead, behind = (
        hessian_product(tf.constant(w + h * along), tf.constant(points), tf.constant(along))[0]
        for h in (1e-5, -1e-5)
    )
    np.testing.assert_allclose(product, (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-7)
