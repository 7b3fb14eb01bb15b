"""The default's steps are preconditioned whatever the loss and the rows of a batch look like."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn

K, layers = keras.ops, keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 6))


def network(activation, units=3):
    keras.utils.set_random_seed(0)
    hidden = layers.Dense(8, activation="tanh")
    return keras.Sequential([keras.Input((6,)), hidden, layers.Dense(units, activation)])


def trained(model, loss, x, y, steps=5, **options):
    optimizer = keras_sfn.SaddleFreeNewton(jit_compile=False)
    model.compile(optimizer, loss, **options)
    rows = len(keras.tree.flatten(y)[0])
    losses = model.fit(x, y, batch_size=rows, epochs=steps, verbose=0, shuffle=False).history
    return losses["loss"], optimizer


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_crossentropy_by_name_takes_the_steps_of_its_logits(activation):
    if activation == "softmax":
        y, kind = RNG.integers(0, 3, 300), keras.losses.SparseCategoricalCrossentropy
    else:
        y, kind = RNG.uniform(size=(300, 3)), keras.losses.BinaryCrossentropy
    by_name, optimizer = trained(network(activation), kind(), X, y)
    of_logits, _ = trained(network(None), kind(from_logits=True), X, y)
    assert optimizer.options_in_use["preconditioner"] == "kronecker"
    np.testing.assert_allclose(by_name, of_logits, rtol=1e-9)
    assert by_name[-1] < by_name[0]


LINEAR = {
    "mae": ("mae", X[:, :3]),
    # A critic: its outputs are all of the loss.
    "mean": (lambda y, outputs: K.mean(outputs), X[:, :3]),
}


@pytest.mark.parametrize("name", LINEAR)
def test_without_a_gauss_newton_part_the_rows_of_the_hessian_make_p(name):
    loss, y = LINEAR[name]
    losses, optimizer = trained(network(None), loss, X, y)
    assert optimizer.options_in_use["preconditioner"] == "kronecker"
    curvature = next(v for v in optimizer.variables if v.path.endswith("/curvature"))
    # The last bias has none: it is linear in the loss.
    assert np.count_nonzero(curvature.numpy()) >= curvature.shape[0] - 3
    assert losses[-1] < losses[0]


def test_where_there_is_no_curvature_that_is_said():
    linear = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    _, optimizer = trained(linear, lambda y, outputs: K.mean(outputs), X, X[:, :3])
    assert optimizer.options_in_use["preconditioner"] is None


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("with_outputs", [True, False])
def test_minimize_is_preconditioned(compiled, with_outputs):
    model = network(None)
    optimizer = keras_sfn.SaddleFreeNewton(jit_compile=False)
    x, y = (tf.constant(values, tf.float32) for values in (X, X[:, :3] ** 2))

    def loss_fn():
        outputs = model(x, training=True)
        loss = tf.reduce_mean((outputs - y) ** 2)
        return (loss, outputs) if with_outputs else loss

    step = lambda: optimizer.minimize(loss_fn, model.trainable_variables)
    step = tf.function(step) if compiled else step
    losses = [float(step()) for _ in range(4)]
    assert optimizer.last_step.kind == "preconditioned directions on all rows"
    assert losses[-1] < 0.7 * losses[0]


def test_a_loss_of_the_weights_alone_takes_lanczos_vectors():
    v = keras.Variable(np.arange(20.0))
    optimizer = keras_sfn.SaddleFreeNewton()
    optimizer.minimize(lambda: tf.reduce_sum(v.value**4), [v])
    assert optimizer.last_step.kind == "Lanczos vectors"
    assert optimizer.last_step.preconditioned == 0


def inner_and_edge():
    inner, edge = RNG.random((90, 2)), RNG.random((12, 2))
    net = keras.Sequential([keras.Input((2,)), layers.Dense(8, "tanh"), layers.Dense(1)])
    inputs = [keras.Input((2,)), keras.Input((2,))]
    model = keras.Model(inputs, [net(inputs[0]), net(inputs[1])])
    model.compile("saddle_free_newton", ["mse", "mse"], loss_weights=[1.0, 0.5])
    data = ((inner, edge), (np.sin(6 * inner[:, :1]), np.zeros((12, 1))))
    return model, tf.data.Dataset.from_tensors(data)


def constant_rows():
    constant = RNG.normal(size=(600, 2)).astype("float32")
    join = lambda t: K.concatenate([t, constant], axis=-1)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Lambda(join, output_shape=(8,)), layers.Dense(1)]
    )
    model.compile("saddle_free_newton", "mse")
    x = RNG.normal(size=(600, 6))
    return model, tf.data.Dataset.from_tensors((x, x[:, :1] ** 2))


def groups_of_rows():
    def loss(_, z):
        first, second, third = K.split(z, 3, axis=0)
        return K.mean((first - 1.0) ** 2) + K.mean((second + third) ** 2)

    model = network(None, units=1)
    model.compile("saddle_free_newton", loss)
    return model, tf.data.Dataset.from_tensors((RNG.normal(size=(600, 6)), np.zeros((600, 1))))


def sparse():
    model = keras.Sequential(
        [keras.Input((6,), sparse=True), layers.Dense(4, "tanh"), layers.Dense(1)]
    )
    model.compile("saddle_free_newton", "mse")
    rows = tf.sparse.from_dense(np.where(X > 0.5, X, 0).astype("float32"))
    return model, tf.data.Dataset.from_tensors((rows, X[:, :1].astype("float32")))


def contrastive():
    def loss(targets, z):
        return -K.mean(K.diagonal(K.log_softmax(K.matmul(z, K.transpose(targets)))))

    model = network(None)
    model.compile(keras_sfn.SaddleFreeNewton(jit_compile=False), loss)
    return model, RNG.normal(size=(600, 6)), RNG.normal(size=(600, 3))


def test_rows_that_meet_take_the_steps_of_all_rows():
    """No part fails; a contrastive loss of 256 rows is just another function than that of 600."""
    model, x, y = contrastive()
    fit = {"batch_size": 600, "epochs": 4, "verbose": 0, "shuffle": False}
    losses = model.fit(x, y, **fit).history["loss"]
    again, *_ = contrastive()
    again.compile(
        keras_sfn.SaddleFreeNewton(jit_compile=False, curvature_batch_size=None), model.loss
    )
    assert model.optimizer.last_step.kind == "preconditioned directions on all rows"
    np.testing.assert_array_equal(again.fit(x, y, **fit).history["loss"], losses)
    assert losses[-1] < losses[0]


def test_slices_in_which_other_rows_meet_are_warned_of(caplog):
    model, x, y = contrastive()
    optimizer = keras_sfn.SaddleFreeNewton(jit_compile=False, micro_batch_size=300)
    model.compile(optimizer, model.loss)
    with caplog.at_level("WARNING", logger="absl"):
        model.fit(x, y, batch_size=600, epochs=1, verbose=0)
    [line] = [r.getMessage() for r in caplog.records if "`micro_batch_size`=300" in r.getMessage()]
    assert "rows meet in MatMul" in line


@pytest.mark.slow
@pytest.mark.parametrize("make", [inner_and_edge, constant_rows, groups_of_rows, sparse])
def test_batches_of_which_no_part_can_be_taken_for_all(make, caplog):
    keras.utils.set_random_seed(0)
    model, batches = make()
    losses = model.fit(batches, epochs=4, verbose=0).history["loss"]
    assert model.optimizer.last_step.kind == "preconditioned directions on all rows"
    assert losses[-1] < losses[0]
    assert np.isfinite(losses).all()


def test_the_first_step_says_what_it_is(caplog):
    with caplog.at_level("INFO", logger="absl"):
        trained(network(None), "mse", X, X[:, :3], steps=2)
        groups = groups_of_rows()
        groups[0].fit(groups[1], epochs=1, verbose=0)
    lines = [r.getMessage() for r in caplog.records if ", curvature of" in r.getMessage()]
    assert len(lines) == 2
    assert "preconditioned directions (1 to 8), curvature of a sixteenth of the rows" in lines[0]
    assert "curvature of all rows (rows meet in Split of " in lines[1]
