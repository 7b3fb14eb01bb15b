import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.objective import parameter_space


def quadratic(symmetric, eigenvalues=(-3.0, 0.5, 2.0, 6.0)):
    """Returns a variable, its loss 0.5 x' A x, and A."""
    matrix = symmetric(eigenvalues)
    x = keras.Variable([1.0, -2.0, 0.5, 3.0][: len(eigenvalues)], dtype="float64")

    def loss_fn():
        return 0.5 * tf.tensordot(x.value, tf.linalg.matvec(matrix, x.value), 1)

    return x, loss_fn, matrix


def dense_step(matrix, gradient, damping):
    values, rotation = np.linalg.eigh(matrix)
    return -rotation @ ((rotation.T @ gradient) / (np.abs(values) + damping))


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("use_previous_step", [False, True])
def test_step_equals_the_dense_formula(symmetric, graph, use_previous_step):
    x, loss_fn, matrix = quadratic(symmetric)
    optimizer = keras_sfn.SaddleFreeNewton(damping=0.1, use_previous_step=use_previous_step)
    step = lambda: optimizer.minimize(loss_fn, [x])
    if graph:
        step = tf.function(step)
    for _ in range(3):
        before = x.numpy()
        loss = step()
        np.testing.assert_allclose(loss, 0.5 * before @ matrix @ before)
        expected = before + dense_step(matrix, matrix @ before, 0.1)
        np.testing.assert_allclose(x.numpy(), expected, rtol=1e-8)
    assert int(optimizer.iterations) == 3


CONFIG = {
    "learning_rate": 0.5,
    "krylov_dimension": 4,
    "damping": [1.0, 0.1],
    "curvature_batch_size": 16,
    "inner_steps": 2,
    "use_previous_step": False,
    "reorthogonalize": False,
    "hvp_mode": "reverse_over_reverse",
    "max_step_norm": 3.0,
    "jit_compile": False,
    "seed": 7,
    "weight_decay": 0.01,
    "use_ema": True,
    "ema_momentum": 0.9,
    "ema_overwrite_frequency": 5,
    "name": "mine",
}


def test_config_round_trips_through_json():
    optimizer = keras_sfn.SaddleFreeNewton(**CONFIG)
    optimizer.max_consecutive_rejections = 3
    text = json.dumps(keras.optimizers.serialize(optimizer))
    restored = keras.optimizers.deserialize(json.loads(text))
    assert isinstance(restored, keras_sfn.SaddleFreeNewton)
    assert restored.get_config() == optimizer.get_config()
    assert restored.max_consecutive_rejections == 3
    config = restored.get_config()
    for name, value in CONFIG.items():
        assert config[name] == value, name


def test_config_names_every_argument_of_the_constructor():
    import inspect

    parameters = set(inspect.signature(keras_sfn.SaddleFreeNewton).parameters) - {"kwargs"}
    config = set(keras_sfn.SaddleFreeNewton().get_config())
    assert config == parameters | {"max_consecutive_rejections"}


def test_found_by_name():
    optimizer = keras.optimizers.get("saddle_free_newton")
    assert isinstance(optimizer, keras_sfn.SaddleFreeNewton)
    assert optimizer.get_config() == keras_sfn.SaddleFreeNewton().get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"krylov_dimension": 0}, "`krylov_dimension` must be an integer >= 1"),
        ({"inner_steps": 0}, "`inner_steps` must be an integer >= 1"),
        ({"curvature_batch_size": 0}, '`curvature_batch_size` must be an integer >= 1, "auto" or'),
        ({"damping": -0.1}, "`damping` must be"),
        ({"damping": "newton"}, "`damping` must be"),
        ({"damping": []}, "`damping` must be a non-empty"),
        ({"damping": [0.1, -1.0]}, "`damping"),
        ({"hvp_mode": "fast"}, "`hvp_mode` must be one of"),
        ({"jit_compile": "yes"}, "`jit_compile` must be one of"),
        ({"max_step_norm": 0.0}, "`max_step_norm` must be a finite number > 0"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"use_previous_step": 1}, "`use_previous_step` must be True or False"),
        ({"reorthogonalize": None}, "`reorthogonalize` must be True or False"),
        ({"learning_rate": -1.0}, "`learning_rate` must be"),
        ({"weight_decay": -0.1}, "`weight_decay` must be a finite number >= 0 or None"),
        ({"weight_decay": float("inf")}, "`weight_decay` must be a finite number >= 0 or None"),
        ({"use_ema": "yes"}, "`use_ema` must be True or False"),
        ({"ema_momentum": 1.5}, r"`ema_momentum` must be a finite number in \[0, 1\]"),
        ({"ema_momentum": None}, r"`ema_momentum` must be a finite number in \[0, 1\]"),
        ({"ema_overwrite_frequency": 0}, "`ema_overwrite_frequency` must be an integer >= 1"),
        ({"clipnorm": 1.0}, "`clipnorm` is not supported.*max_step_norm"),
        ({"global_clipnorm": 1.0}, "`global_clipnorm` is not supported.*max_step_norm"),
        ({"clipvalue": 1.0}, "`clipvalue` is not supported.*max_step_norm"),
        ({"gradient_accumulation_steps": 2}, "`gradient_accumulation_steps` is not supported"),
        ({"loss_scale_factor": 2.0}, "`loss_scale_factor` is not supported.*mixed_bfloat16"),
        ({"momentum": 0.9}, "`momentum` is not an argument"),
        ({"max_consecutive_rejections": 0}, "`max_consecutive_rejections` must be an integer >= 1"),
    ],
)
def test_bad_arguments_are_named_at_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_sfn.SaddleFreeNewton(**arguments)


def test_gradients_alone_are_refused():
    optimizer, v = keras_sfn.SaddleFreeNewton(), keras.Variable([1.0])
    with pytest.raises(ValueError, match=r"optimizer\.minimize\(loss_fn, variables\)"):
        optimizer.apply_gradients([(tf.ones(1), v)])
    with pytest.raises(ValueError, match=r"optimizer\.minimize\(loss_fn, variables\)"):
        optimizer.apply([tf.ones(1)], [v])
    np.testing.assert_array_equal(v.numpy(), [1])


def test_curvature_batches_need_fit():
    v = keras.Variable([1.0])
    with pytest.raises(ValueError, match=r"`curvature_batch_size` needs `model\.fit`"):
        keras_sfn.SaddleFreeNewton(curvature_batch_size=4).minimize(lambda: v.value[0], [v])


def test_other_variables_than_before_are_refused():
    optimizer, v, other = keras_sfn.SaddleFreeNewton(), keras.Variable([1.0]), keras.Variable([1.0])
    optimizer.minimize(lambda: v.value[0] ** 2, [v])
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.minimize(lambda: other.value[0] ** 2, [other])


def test_counter_before_the_first_step():
    with pytest.raises(ValueError, match="`rejected_steps` exists once the optimizer is built"):
        keras_sfn.SaddleFreeNewton().rejected_steps  # noqa: B018


def test_a_loss_decorated_with_tf_function_is_unwrapped():
    v = keras.Variable([1.0, 2.0])
    loss_fn = tf.function(lambda: tf.reduce_sum(v.value**2))
    optimizer = keras_sfn.SaddleFreeNewton(damping=0.0)
    for _ in range(2):
        optimizer.minimize(loss_fn, [v])
    np.testing.assert_allclose(v.numpy(), 0, atol=1e-6)


def test_a_loss_that_differs_between_evaluations_is_refused_in_eager_code_too():
    v = keras.Variable([1.0, 2.0])
    optimizer = keras_sfn.SaddleFreeNewton()
    loss_fn = lambda: tf.reduce_sum((v.value - tf.random.normal((2,))) ** 2)
    with pytest.raises(ValueError, match=r"Two evaluations at the same point gave"):
        optimizer.minimize(loss_fn, [v])
    np.testing.assert_array_equal(v.numpy(), [1, 2])


def test_python_control_flow_on_tensors_in_a_graph():
    v = keras.Variable([1.0, 2.0])
    optimizer = keras_sfn.SaddleFreeNewton(damping=0.0)

    @tf.function
    def train(sign):
        def loss_fn():
            if sign > 0:
                return tf.reduce_sum((v - 3.0) ** 2)
            return tf.reduce_sum((v + 3.0) ** 2)

        return optimizer.minimize(loss_fn, [v])

    train(tf.constant(1.0))
    np.testing.assert_allclose(v.numpy(), 3, atol=1e-5)
    train(tf.constant(-1.0))
    np.testing.assert_allclose(v.numpy(), -3, atol=1e-5)


def test_one_trace_serves_all_steps_of_a_shape():
    v, traces = keras.Variable([1.0, 2.0]), []
    optimizer = keras_sfn.SaddleFreeNewton()

    @tf.function
    def train(target):
        def loss_fn():
            traces.append(1)
            return tf.reduce_sum((v - target) ** 4)

        return optimizer.minimize(loss_fn, [v])

    train(tf.ones(2))
    first = len(traces)
    for shift in range(5):
        train(tf.ones(2) * shift)
    assert len(traces) == first


@pytest.mark.parametrize(("jit", "bad"), [(False, np.inf), (True, np.nan)])
@pytest.mark.parametrize("damping", ["search", "adaptive", 0.1])
def test_a_loss_that_is_not_finite_changes_nothing_but_the_counter(jit, damping, bad):
    v, statistic = keras.Variable([1.0, 2.0]), keras.Variable(5.0, trainable=False)
    optimizer = keras_sfn.SaddleFreeNewton(damping=damping, jit_compile=jit, weight_decay=0.1)

    @tf.function
    def train(scale):
        def loss_fn():
            statistic.assign(scale)
            return tf.reduce_sum(v**4) * scale

        return optimizer.minimize(loss_fn, [v])

    train(tf.constant(2.0))
    space = parameter_space.ParameterSpace([v])
    before, previous = v.numpy(), optimizer._previous_step.read(space)
    assert not np.isfinite(train(tf.constant(bad)))
    np.testing.assert_array_equal(v.numpy(), before)
    np.testing.assert_array_equal(optimizer._previous_step.read(space), previous)
    assert float(statistic) == 2
    assert int(optimizer.rejected_steps) == 1
    assert int(optimizer.iterations) == 2
    train(tf.constant(1.0))
    assert int(optimizer.rejected_steps) == 1
    assert not np.array_equal(v.numpy(), before)


@pytest.mark.parametrize("damping", ["search", "adaptive"])
def test_a_step_that_does_not_lower_the_loss_is_not_taken(damping):
    v = keras.Variable([1.0, 2.0])
    # A slope that is not there: the value stays at zero wherever the step goes.
    flat = tf.custom_gradient(lambda x: (0 * x, lambda slope: slope + 1))
    loss_fn = lambda: tf.reduce_sum(flat(v.value))
    optimizer = keras_sfn.SaddleFreeNewton(damping=damping, weight_decay=0.1)
    for step in range(2):
        optimizer.minimize(loss_fn, [v])
        np.testing.assert_array_equal(v.numpy(), [1, 2])
        assert int(optimizer.rejected_steps) == step + 1


def test_learning_rate_schedule():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 0.25])
    x = keras.Variable([1.0, 2.0], dtype="float64")
    optimizer = keras_sfn.SaddleFreeNewton(learning_rate=schedule, damping=0.0)
    loss_fn = lambda: tf.reduce_sum(x.value**2)
    optimizer.minimize(loss_fn, [x])  # iteration 0: the full step, to the minimum
    np.testing.assert_allclose(x.numpy(), 0, atol=1e-12)
    x.assign([1.0, 2.0])
    optimizer.minimize(loss_fn, [x])
    np.testing.assert_allclose(x.numpy(), [0.75, 1.5])


def test_learning_rate_can_be_set_between_steps():
    x = keras.Variable([1.0, 2.0], dtype="float64")
    optimizer = keras_sfn.SaddleFreeNewton(damping=0.0)
    optimizer.learning_rate = 0.5
    optimizer.minimize(lambda: tf.reduce_sum(x.value**2), [x])
    np.testing.assert_allclose(x.numpy(), [0.5, 1.0])


def test_weight_decay_is_decoupled_and_can_be_excluded():
    kernel = keras.Variable([1.0, 2.0], dtype="float64", name="kernel")
    bias = keras.Variable([4.0], dtype="float64", name="bias")
    optimizer = keras_sfn.SaddleFreeNewton(0.5, damping=0.0, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    loss_fn = lambda: tf.reduce_sum(kernel.value**2) + tf.reduce_sum(bias.value**2)
    optimizer.minimize(loss_fn, [kernel, bias])
    np.testing.assert_allclose(kernel.numpy(), np.array([1.0, 2.0]) * (0.5 - 0.5 * 0.1))
    np.testing.assert_allclose(bias.numpy(), [2.0])


def test_constraints_hold_after_a_step():
    v = keras.Variable([1.0, 2.0])
    v.constraint = keras.constraints.NonNeg()
    optimizer = keras_sfn.SaddleFreeNewton(damping=0.0)
    optimizer.minimize(lambda: tf.reduce_sum((v.value + 1.0) ** 2), [v])
    np.testing.assert_array_equal(v.numpy(), [0, 0])


def test_moving_average_is_that_of_keras():
    x = keras.Variable([1.0, 2.0], dtype="float64")
    optimizer = keras_sfn.SaddleFreeNewton(0.5, damping=0.0, use_ema=True, ema_momentum=0.9)
    for _ in range(2):
        optimizer.minimize(lambda: tf.reduce_sum(x.value**2), [x])
    # Keras starts the average at the first new value: 0.5 and then 0.9 * 0.5 + 0.1 * 0.25.
    optimizer.finalize_variable_values([x])
    np.testing.assert_allclose(x.numpy(), np.array([1.0, 2.0]) * (0.9 * 0.5 + 0.1 * 0.25))


def test_the_accepted_step_is_the_next_ones_previous():
    first, second = keras.Variable([1.0, 2.0]), keras.Variable([[3.0]])
    optimizer = keras_sfn.SaddleFreeNewton(damping=0.0)
    loss_fn = lambda: tf.reduce_sum(first.value**2) + tf.reduce_sum(second.value**2)
    optimizer.minimize(loss_fn, [first, second])
    space = parameter_space.ParameterSpace([first, second])
    np.testing.assert_allclose(optimizer._previous_step.read(space), [-1, -2, -3], rtol=1e-5)


def test_the_previous_step_widens_the_subspace(symmetric):
    losses = []
    for use_previous_step in (False, True):
        x, loss_fn, _ = quadratic(symmetric, (1.0, 10.0, 100.0, 1000.0))
        optimizer = keras_sfn.SaddleFreeNewton(
            damping=0.0, krylov_dimension=1, use_previous_step=use_previous_step
        )
        for _ in range(12):
            loss = optimizer.minimize(loss_fn, [x])
        losses.append(float(loss))
    assert losses[1] < 0.1 * losses[0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_dtypes(dtype):
    v = keras.Variable([1.0, 2.0], dtype=dtype)
    optimizer = keras_sfn.SaddleFreeNewton(damping=0.0)
    loss = optimizer.minimize(lambda: tf.reduce_sum(v.value**2), [v])
    assert v.value.dtype == dtype
    assert float(loss) == 5
    np.testing.assert_allclose(tf.cast(v.value, "float64"), 0, atol=1e-2)


def test_dropout_in_a_hand_written_loop_is_frozen_and_moves_once():
    model = keras.Sequential(
        [keras.Input((20,)), keras.layers.Dropout(0.5, seed=3), keras.layers.Dense(1)]
    )
    x, y = tf.random.normal((64, 20), seed=0), tf.random.normal((64, 1), seed=1)
    seeds = model.layers[0].seed_generator.state
    optimizer = keras_sfn.SaddleFreeNewton()
    loss_fn = lambda: tf.reduce_mean((model(x, training=True) - y) ** 2)
    for step in range(3):
        optimizer.minimize(loss_fn, model.trainable_variables)
        np.testing.assert_array_equal(seeds.numpy(), [3, step + 1])
    # Least squares with a fixed mask: each step lowers the loss of its own mask.
    assert int(optimizer.rejected_steps) == 0


@pytest.mark.slow
def test_xla_and_graph_agree(make_classifier, digits):
    x, y = (data[:256] for data in digits)
    weights = []
    for jit in (False, True):
        model = make_classifier()
        model.compile(
            keras_sfn.SaddleFreeNewton(jit_compile=jit), "sparse_categorical_crossentropy"
        )
        model.train_on_batch(x, y)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    start = np.concatenate([w.ravel() for w in make_classifier().get_weights()])
    difference = np.linalg.norm(weights[0] - weights[1]) / np.linalg.norm(weights[0] - start)
    # Float32 rounding, amplified by ten Lanczos steps and a damping of 1e-6 at the least.
    assert difference < 1e-2


def test_wrong_curvature_is_refused_in_eager_code_too():
    v = keras.Variable(np.ones((1, 2, 2, 1)))
    resize = lambda: tf.raw_ops.ResizeBilinear(images=v.value, size=(4, 4))
    with pytest.raises(NotImplementedError, match="ResizeBilinearGrad"):
        keras_sfn.SaddleFreeNewton().minimize(lambda: tf.reduce_sum(resize() ** 4), [v])


def test_code_that_only_runs_eagerly_trains():
    v = keras.Variable([1.0, 2.0])
    optimizer = keras_sfn.SaddleFreeNewton()

    def loss_fn():
        loss = tf.reduce_sum(v.value**2)
        return loss if loss > 0 else -loss

    assert float(optimizer.minimize(loss_fn, [v])) == 5
    np.testing.assert_allclose(v.numpy(), 0, atol=1e-3)
