import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn

TF_MOMENTS = tf.nn.moments._keras_sfn_original


def batch(shape=(5,), rows=16, outputs=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, *shape)).astype("float32"), rng.normal(size=(rows, outputs))


def network(*layers, shape=(5,)):
    model = keras.Sequential(
        [keras.Input(shape), *layers, keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model.compile(loss="mse")
    return model


def convnet():
    k = keras.layers
    return network(
        k.Conv2D(6, 3, activation="relu"),
        k.MaxPooling2D(),
        k.BatchNormalization(),
        k.LeakyReLU(),
        k.Conv2D(6, 2, activation="selu"),
        k.Dropout(0.3, seed=1),
        k.Flatten(),
        k.Dense(20, activation="hard_silu"),
        k.LayerNormalization(),
        shape=(10, 10, 2),
    )


def small():
    """Has statistics and draws, and no kink."""
    k = keras.layers
    return network(k.Dense(6, activation="tanh"), k.BatchNormalization(), k.Dropout(0.3, seed=1))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_kinks_are_not_taken_for_errors(policy):
    keras.config.set_dtype_policy(policy)
    try:
        report = keras_sfn.check_curvature(convnet(), *batch((10, 10, 2)))
    finally:
        keras.config.set_dtype_policy("float32")
    assert report, report
    assert report.num_kinks >= 6
    if policy == "float32":  # Differences that jumped over the kinks would be wrong by the order 1.
        assert max(check.relative_error for check in report.variables) < 1e-3


@pytest.mark.parametrize("mode", ["forward_over_reverse", "reverse_over_reverse"])
def test_both_modes(mode):
    report = keras_sfn.check_curvature(convnet(), *batch((10, 10, 2)), hvp_mode=mode)
    assert report, report


@tf.custom_gradient
def stops_its_slope(x):
    y = tf.tanh(x)
    return y, lambda g: g * tf.raw_ops.StopGradient(input=1 - y * y)


def moments_of_tensorflow(x):
    mean, variance = TF_MOMENTS(x, [-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-3)


@pytest.mark.parametrize("function", [stops_its_slope, moments_of_tensorflow])
def test_wrong_curvature_is_found_and_located(function):
    model = network(
        keras.layers.Dense(6, activation="relu", name="before"),
        keras.layers.Lambda(function),
    )
    report = keras_sfn.check_curvature(model, *batch())
    assert not report
    verdicts = {check.path.split("/", 1)[1]: check.verdict for check in report.variables}
    assert verdicts["before/kernel"] == "wrong"
    # The last layer comes after the error, and only its own part of the Hessian is right.
    assert verdicts[[path for path in verdicts if "before" not in path][-1]] == "right"
    assert "wrong" in str(report)


def test_a_weight_without_curvature_is_right():
    """A bias before a normalisation changes nothing."""
    model = network(
        keras.layers.Dense(6, name="before"), keras.layers.BatchNormalization(epsilon=1e-3)
    )
    report = keras_sfn.check_curvature(model, *batch())
    verdicts = {check.path.split("/", 1)[1]: check.verdict for check in report.variables}
    assert verdicts["before/bias"] == "right (zero)"
    assert report, report


def test_a_kink_in_a_loop_is_not_called_wrong():
    model = network(keras.layers.SimpleRNN(30, activation="relu"), shape=(20, 3))
    report = keras_sfn.check_curvature(model, *batch((20, 3), rows=64))
    assert "wrong" not in {check.verdict for check in report.variables}


def test_nothing_in_the_model_changes():
    model = small()
    before = [v.numpy() for v in model.variables]
    keras_sfn.check_curvature(model, *batch(), num_directions=1)
    for variable, old in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)


def test_the_same_call_gives_the_same_report():
    model = small()
    first, second = (keras_sfn.check_curvature(model, *batch(), num_directions=1) for _ in range(2))
    assert str(first) == str(second)
    other = keras_sfn.check_curvature(model, *batch(), num_directions=1, seed=1)
    assert str(other) != str(first)


def test_sample_weights_and_inference_mode_reach_the_loss():
    model = network(keras.layers.Dropout(0.5), keras.layers.Dense(4, activation="tanh"))
    x, y = batch()
    weights = np.zeros(len(x), "float32")
    report = keras_sfn.check_curvature(model, x, y, weights, training=False)
    assert {check.verdict for check in report.variables} == {"right (zero)"}
    assert keras_sfn.check_curvature(model, x, y, weights + 1, training=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_directions": 0}, "`num_directions` must be an integer >= 1"),
        ({"tolerance": -1.0}, "`tolerance` must be a finite number > 0"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"hvp_mode": "fast"}, "`hvp_mode` must be one of"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        keras_sfn.check_curvature(network(), *batch(), **options)


def test_a_tolerance_decides():
    report = keras_sfn.check_curvature(small(), *batch(), tolerance=1e-12)
    assert not report
    assert report.tolerance == 1e-12


def test_a_model_that_is_not_compiled_and_batches_that_do_not_fit_are_refused():
    x, y = batch()
    with pytest.raises(ValueError, match="`model` must be compiled"):
        keras_sfn.check_curvature(
            keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]), x, y
        )
    with pytest.raises(ValueError, match="same number of rows"):
        keras_sfn.check_curvature(network(), x, y[:3])
    with pytest.raises(ValueError, match="must be finite"):
        keras_sfn.check_curvature(network(), x * np.nan, y)


@pytest.mark.slow
def test_a_model_of_keras_applications():
    """The first half of it, which has blocks of all kinds."""
    whole = keras.applications.MobileNetV3Small(input_shape=(32, 32, 3), weights=None)
    kinds = lambda layers: {type(layer) for layer in layers}
    half = whole.layers[: len(whole.layers) // 2]
    # The other half ends in what classifies.
    assert kinds(whole.layers) - kinds(half) <= {keras.layers.Dropout, keras.layers.Flatten}
    pooled = keras.layers.GlobalAveragePooling2D()(half[-1].output)
    model = keras.Model(whole.input, keras.layers.Dense(10, activation="softmax")(pooled))
    model.compile(loss="sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 255, size=(8, 32, 32, 3)), rng.integers(0, 10, 8)
    report = keras_sfn.check_curvature(model, x, y, num_directions=1)
    assert report, report
