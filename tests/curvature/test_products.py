import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.curvature import products
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import parameter_space

MODES = ["forward_over_reverse", "reverse_over_reverse", "auto"]


def model_objective(model, x, y, loss):
    model.compile("sgd", loss)

    def loss_fn():
        return model.compute_loss(x, y, model(x, training=True)), None

    return objective_lib.Objective(
        loss_fn, parameter_space.ParameterSpace(model.trainable_variables)
    )


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
    objective = objective_lib.Objective(loss_fn, parameter_space.ParameterSpace([v]))
    product = products.hessian_vector_product(objective, current_point(objective), mode)
    vector = tf.constant([1.0, -2.0, 3.0, 0.5], "float64")
    np.testing.assert_allclose(product(vector), matrix @ vector.numpy(), rtol=1e-12)


@pytest.mark.parametrize("jit", [False, True])
def test_dense_is_the_matrix_of_the_products_in_a_graph_and_in_eager_code(jit, symmetric):
    matrix = symmetric([-3.0, -1.0, 0.5, 4.0])
    form = products.dense(lambda v: tf.linalg.matvec(matrix, v), 4, "float64", jit)
    np.testing.assert_allclose(form(), matrix, rtol=1e-12)
    np.testing.assert_allclose(tf.function(form, autograph=False)(), matrix, rtol=1e-12)


LAYERS = {
    "batch normalization": ((3,), lambda k: [k.Dense(4), k.BatchNormalization(), k.Dense(2)]),
    "layer normalization": ((3,), lambda k: [k.Dense(4), k.LayerNormalization(), k.Dense(2)]),
    "group normalization": ((3,), lambda k: [k.Dense(4), k.GroupNormalization(2), k.Dense(2)]),
    "rms normalization": ((3,), lambda k: [k.Dense(4), k.RMSNormalization(), k.Dense(2)]),
    "unit normalization": ((3,), lambda k: [k.Dense(4), k.UnitNormalization(), k.Dense(2)]),
    "bilinear upsampling": (
        (3, 3, 1),
        lambda k: [
            k.Conv2D(2, 2, activation="tanh"),
            k.UpSampling2D(2, interpolation="bilinear"),
            k.Conv2D(1, 2, activation="tanh"),
            k.Flatten(),
            k.Dense(2),
        ],
    ),
    "softsign": ((3,), lambda k: [k.Dense(4, activation="softsign"), k.Dense(2)]),
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
        return products.hessian_vector_product(objective, at, "auto")(along)

    expected = difference_product(objective, point, vector)
    error = tf.norm(product(point, vector) - expected) / tf.norm(expected)
    assert float(error) < 1e-7


def test_auto_is_reverse_mode_but_for_losses_with_forward_mode():
    assert products.resolve_mode("auto") == "reverse_over_reverse"
    assert products.resolve_mode("auto", has_forward_mode=True) == "forward_over_reverse"
    for mode in MODES[:2]:
        assert products.resolve_mode(mode, has_forward_mode=True) == mode
        assert products.resolve_mode(mode) == mode
    both = {"has_forward_mode": True, "synchronized": True}
    assert products.resolve_mode("auto", **both) == "reverse_over_reverse"


def test_auto_passes_through_loops():
    v = keras.Variable([1.0, 2.0])

    def loss_fn():
        body = lambda i, total: (i + 1, total + tf.reduce_sum(v.value**3))
        return tf.while_loop(lambda i, _: i < 2, body, (0, 0.0))[1], None

    objective = objective_lib.Objective(loss_fn, parameter_space.ParameterSpace([v]))

    @tf.function(autograph=False)
    def product(vector):
        return products.hessian_vector_product(objective, tf.constant([1.0, 2.0]), "auto")(vector)

    np.testing.assert_allclose(product(tf.constant([1.0, 1.0])), [12, 24])


@pytest.mark.parametrize("mode", MODES)
def test_a_linear_loss_has_curvature_zero(mode):
    v = keras.Variable([1.0, 2.0])
    objective = objective_lib.Objective(
        lambda: (tf.reduce_sum(v.value), None), parameter_space.ParameterSpace([v])
    )
    product = products.hessian_vector_product(objective, tf.constant([1.0, 2.0]), mode)
    np.testing.assert_array_equal(product(tf.constant([1.0, 1.0])), [0, 0])


@pytest.fixture
def operator(float64):
    """A small classifier with dropout and batch statistics, in float64."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, activation="tanh", kernel_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3, seed=1),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    return model, keras_sfn.HessianOperator.from_model(model, x, y)


def test_operator_is_symmetric_and_its_dense_form_agrees(operator):
    model, hessian_operator = operator
    size = model.count_params() - 10  # the moving statistics are not trained
    assert hessian_operator.shape == (size, size)
    dense = hessian_operator.to_dense().numpy()
    np.testing.assert_allclose(dense, dense.T, atol=1e-12)
    v = np.random.default_rng(1).normal(size=size)
    np.testing.assert_allclose(hessian_operator.matvec(v), dense @ v, atol=1e-12)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.usefixtures("float64")
def test_the_dense_form_is_that_of_products_one_by_one(jit):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(2)]
    )
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(9, 3)), rng.normal(size=(9, 2))
    operator = keras_sfn.HessianOperator.from_model(model, *batch, jit_compile=jit)
    dense = operator.to_dense().numpy()
    # More rows than a block has, so that the last block is not full.
    assert dense.shape == (98, 98)
    columns = [operator.matvec(unit).numpy() for unit in np.eye(98)]
    np.testing.assert_allclose(dense, columns, atol=1e-13)


def test_operator_agrees_with_differences_of_its_gradient(operator):
    model, hessian_operator = operator
    v = np.random.default_rng(1).normal(size=hessian_operator.shape[0])
    space = parameter_space.ParameterSpace(model.trainable_variables)
    start, gradients = space.flatten(space.values()), []
    for sign in (1, -1):
        for variable, value in zip(
            space.variables, space.unflatten(start + sign * 1e-5 * v), strict=True
        ):
            variable.assign(value)
        gradients.append(hessian_operator.gradient().numpy())
    for variable, value in zip(space.variables, space.unflatten(start), strict=True):
        variable.assign(value)
    expected = (gradients[0] - gradients[1]) / 2e-5
    error = np.linalg.norm(hessian_operator.matvec(v) - expected) / np.linalg.norm(expected)
    assert error < 1e-7


def test_operator_repeats_itself_and_leaves_the_model(operator):
    model, hessian_operator = operator
    before = [w.numpy() for w in model.variables]
    v = np.ones(hessian_operator.shape[0])
    first = [hessian_operator.loss(), hessian_operator.gradient(), hessian_operator.matvec(v)]
    again = [hessian_operator.loss(), hessian_operator.gradient(), hessian_operator.matvec(v)]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for got, expected in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(got.numpy(), expected)


def test_operator_is_traced_once():
    v, traces = keras.Variable([1.0, 2.0]), []

    def loss_fn():
        traces.append(1)
        return tf.reduce_sum(v**4)

    hessian_operator = keras_sfn.HessianOperator(loss_fn, [v])
    np.testing.assert_allclose(hessian_operator.matvec(tf.ones(2)), [12, 48])
    count = len(traces)
    v.assign([2.0, 1.0])
    np.testing.assert_allclose(hessian_operator.matvec(tf.ones(2)), [48, 12])
    assert len(traces) == count


def test_operator_reports_bfloat16_models_in_float32():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(2, activation="tanh", dtype="mixed_bfloat16")]
    )
    model.compile("sgd", "mse")
    hessian_operator = keras_sfn.HessianOperator.from_model(model, np.ones((8, 4)), np.ones((8, 2)))
    assert hessian_operator.dtype == "float32"
    assert hessian_operator.matvec(np.ones(10, "float32")).dtype == "float32"


@pytest.mark.parametrize(
    "v", [np.ones(3), np.ones((2, 1), "float32"), np.ones(2, "float64"), np.ones(2, "int32")]
)
def test_operator_refuses_vectors_of_other_shape_or_dtype(v):
    variable = keras.Variable([1.0, 2.0])
    hessian_operator = keras_sfn.HessianOperator(lambda: tf.reduce_sum(variable**4), [variable])
    with pytest.raises(ValueError, match=r"`v` must have shape \(2,\) and dtype float32"):
        hessian_operator.matvec(v)


def test_operator_refuses_a_dense_form_beyond_memory():
    variable = keras.Variable(np.zeros(2_000_000, "float32"))
    hessian_operator = keras_sfn.HessianOperator(lambda: tf.reduce_sum(variable**4), [variable])
    with pytest.raises(MemoryError, match=r"n = 2000000 parameters takes 16000000000000 bytes"):
        hessian_operator.to_dense()


@pytest.mark.parametrize(
    ("loss_fn", "message"),
    [
        (lambda v: v.value, "must be a scalar"),
        (lambda v: tf.reduce_sum(v.value) * np.nan, "must be finite"),
        (lambda v: tf.reduce_sum(v.value * tf.random.normal((2,))), "RandomStandardNormal"),
    ],
)
def test_operator_refuses_losses_that_have_no_hessian(loss_fn, message):
    v = keras.Variable([1.0, 2.0])
    with pytest.raises(ValueError, match=message):
        keras_sfn.HessianOperator(lambda: loss_fn(v), [v])


@pytest.mark.parametrize("option", [{"hvp_mode": "fast"}, {"jit_compile": "yes"}])
def test_operator_refuses_unknown_options(option):
    v = keras.Variable([1.0, 2.0])
    [name] = option
    with pytest.raises(ValueError, match=f"`{name}` must be one of"):
        keras_sfn.HessianOperator(lambda: tf.reduce_sum(v**2), [v], **option)


def test_forward_mode_is_refused_where_layers_sum_over_replicas():
    for mode in ("auto", "reverse_over_reverse"):
        assert products.resolve_mode(mode, synchronized=True) == "reverse_over_reverse"
    with pytest.raises(NotImplementedError, match=r"synchronized=True.*'auto'"):
        products.resolve_mode("forward_over_reverse", synchronized=True)
