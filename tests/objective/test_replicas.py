import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.backend import collectives
from keras_sfn.objective import parameter_space, replica_batch
from tests import strategies
from tests.whole import replica_runs

pytestmark = pytest.mark.slow

layers = keras.layers


def assert_same(ours, theirs, tolerance):
    np.testing.assert_allclose(ours["losses"], theirs["losses"], atol=tolerance, rtol=tolerance)
    assert ours["rejected"] == theirs["rejected"]
    for name, values in ours["history"].items():
        np.testing.assert_allclose(values, theirs["history"][name], atol=tolerance, rtol=tolerance)
    for one, other in zip(ours["weights"], theirs["weights"], strict=True):
        np.testing.assert_allclose(one, other, atol=10 * tolerance)


@pytest.fixture(scope="module")
def one():
    """The training on one device, in single precision."""
    return replica_runs.train("plain")


@pytest.mark.parametrize("count", [2, 4])
def test_ten_steps_in_single_precision_as_one_device(count, one):
    with strategies.mirrored(count).scope():
        several = replica_runs.train("plain")
    assert len(one["losses"]) == 10
    assert_same(several, one, 1e-3)


EQUAL = [name for name in replica_runs.CASES if name not in ("batch statistics", "dropout")]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", EQUAL)
def test_the_steps_of_two_replicas_are_those_of_one_device(case):
    one = replica_runs.train(case)
    with strategies.mirrored(2).scope():
        assert_same(replica_runs.train(case), one, 1e-9)
    if case == "NaN":
        assert one["rejected"] == 2


def test_a_strategy_of_one_device():
    one = replica_runs.train("plain", epochs=1)
    with strategies.mirrored(1).scope():
        assert_same(replica_runs.train("plain", epochs=1), one, 1e-6)


@pytest.mark.usefixtures("float64")
def test_batch_statistics_are_those_of_each_replica_and_move_by_their_mean():
    # On one device a slice of four rows stands for a replica.
    one = replica_runs.train("batch statistics", micro_batch_size=4)
    with strategies.mirrored(2).scope():
        assert_same(replica_runs.train("batch statistics"), one, 1e-9)


def test_statistics_stay_finite_where_a_replica_has_no_rows():
    with strategies.mirrored(2).scope():
        found = replica_runs.train("batch statistics", rows=9, epochs=1)
    assert np.isfinite(found["losses"]).all()
    assert all(np.isfinite(values).all() for values in found["weights"])


def test_dropout_is_the_same_in_every_run():
    with strategies.mirrored(2).scope():
        first, second = (replica_runs.train("dropout", rows=8) for _ in range(2))
    assert first["digests"] == second["digests"]


def test_replicas_have_masks_of_their_own_and_keep_them_for_a_step():
    strategy = strategies.mirrored(2)
    with strategy.scope():
        model = keras.Sequential([keras.Input((50,)), layers.Dropout(0.5), layers.Dense(1)])
    space = parameter_space.ParameterSpace(model.trainable_variables)

    def loss_of(x):
        def loss_fn():
            y = model(x, training=True)
            return tf.reduce_mean(y), y

        return loss_fn

    def step(x):
        batch = replica_batch.ReplicaBatch(x, loss_of, space)
        batch.reseed(tf.constant([1, 2], tf.int64))
        loss, point = batch.whole(), space.flatten(space.values())
        return [loss.evaluation_and_gradient(point)[0].outputs for _ in range(2)]

    first, second = strategy.run(lambda: collectives.once(step, tf.ones((4, 50))))
    ours, others = (output.numpy() for output in first.values)
    assert not np.allclose(ours, others)
    np.testing.assert_array_equal(second.values[0], ours)
    np.testing.assert_array_equal(second.values[1], others)


@pytest.mark.usefixtures("float64")
def test_a_saved_model_goes_on_with_as_many_replicas_or_fewer(tmp_path):
    path, strategy = tmp_path / "model.keras", strategies.mirrored(2)
    x, y, _ = replica_runs.data(32)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)

    def losses(model):
        watch = replica_runs.Watch()
        model.fit(batches, shuffle=False, verbose=0, callbacks=[watch])
        return watch.losses

    with strategy.scope():
        model = replica_runs.build(keras_sfn.SaddleFreeNewton(jit_compile=False))
    losses(model)
    model.save(path)
    expected = losses(model)
    np.testing.assert_allclose(losses(keras.models.load_model(path)), expected, rtol=1e-9)
    with strategy.scope():
        model = keras.models.load_model(path)
    np.testing.assert_allclose(losses(model), expected, rtol=1e-12)


class Counts(layers.Layer):
    """Has state that each replica holds a part of."""

    def __init__(self):
        super().__init__()
        self.seen = keras.metrics.Sum()

    def call(self, x):
        self.seen.update_state(tf.ones(tf.shape(x)[:1]))
        return x


def test_state_that_replicas_hold_parts_of_is_counted_once():
    inputs = {"a": keras.Input((6,), name="a"), "b": keras.Input((), dtype="int32", name="b")}
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(17, 6)), "b": rng.integers(0, 5, 17)}
    batches = tf.data.Dataset.from_tensor_slices((x, x["a"][:, :2])).batch(8)
    found = []
    for strategy in (tf.distribute.get_strategy(), strategies.mirrored(2)):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            counts = Counts()
            joined = layers.concatenate([counts(inputs["a"]), layers.Embedding(5, 3)(inputs["b"])])
            model = keras.Model(inputs, layers.Dense(2)(joined))
            model.compile(keras_sfn.SaddleFreeNewton(krylov_dimension=3, jit_compile=False), "mse")
        loss = model.fit(batches, verbose=0, shuffle=False).history["loss"][0]
        found.append((loss, float(counts.seen.result())))
    assert found[0][1] == found[1][1] == 17
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "compiled"),
    [
        ({"krylov_dimension": 3, "jit_compile": False}, True),
        ({"krylov_dimension": 3, "jit_compile": False}, False),
        ({"krylov_dimension": 3, "jit_compile": True}, True),
    ],
)
def test_minimize_takes_the_step_of_the_sum_of_the_replicas_losses(options, compiled):
    strategy, (x, y, _) = strategies.mirrored(2), replica_runs.data(8)
    x, y = x.astype("float32"), y.astype("float32")
    found = []
    for scope, rows in ((tf.distribute.get_strategy(), 8), (strategy, 4)):
        with scope.scope():
            keras.utils.set_random_seed(0)
            model = keras.Sequential([keras.Input((6,)), layers.Dense(2, "tanh")])
            optimizer = keras_sfn.SaddleFreeNewton(**options)
            optimizer.build(model.trainable_variables)

        def step(model=model, optimizer=optimizer, rows=rows):
            own = slice(collectives.index() * rows, (collectives.index() + 1) * rows)

            def loss_fn():
                # Divided by the number of all rows, as TensorFlow's guide to such loops has it.
                return tf.reduce_sum((model(x[own], training=True) - y[own]) ** 2) / 8

            return optimizer.minimize(loss_fn, model.trainable_variables)

        def train(scope=scope, step=step):
            return scope.experimental_local_results(scope.run(step))[0]

        if compiled:
            train = tf.function(train)
        found.append([float(train()) for _ in range(3)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


@pytest.mark.parametrize("synchronized", [True, False])
def test_minimize_is_preconditioned_and_finds_out_whether_layers_sum(synchronized, monkeypatch):
    strategy, (x, y, _) = strategies.mirrored(2), replica_runs.data(64)
    with strategy.scope():
        model = replica_runs.build(
            optimizer := keras_sfn.SaddleFreeNewton(jit_compile=True),
            lambda: [layers.BatchNormalization(synchronized=synchronized)],
        )
        optimizer.build(model.trainable_variables)
    found, looks = [], replica_batch.ReplicaBatch._meets_others
    monkeypatch.setattr(
        replica_batch.ReplicaBatch,
        "_meets_others",
        lambda self: found.append(looks(self)) or found[-1],
    )

    def step():
        rows = slice(32 * collectives.index(), 32 * collectives.index() + 32)

        def loss_fn():
            return tf.reduce_sum((model(x[rows], training=True) - y[rows]) ** 2) / 64

        return optimizer.minimize(loss_fn, model.trainable_variables)

    train = tf.function(lambda: strategy.experimental_local_results(strategy.run(step))[0])
    losses = [float(train()) for _ in range(20)]
    assert found == [synchronized]
    assert optimizer.options_in_use["preconditioner"] == "kronecker"
    assert losses[-1] < 0.2 * losses[0]


def test_minimize_outside_the_replicas_is_refused():
    with strategies.mirrored(2).scope():
        model = replica_runs.build(optimizer := keras_sfn.SaddleFreeNewton())
        with pytest.raises(RuntimeError, match=r"2 replicas.*strategy.run"):
            optimizer.minimize(
                lambda: tf.reduce_sum(model(tf.ones((2, 6))) ** 2), model.trainable_variables
            )


def test_losses_that_have_no_weight_on_replicas_are_refused():
    of_weights = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    with strategies.mirrored(2).scope():
        model = replica_runs.build(keras_sfn.SaddleFreeNewton(), loss=of_weights)
        with pytest.raises(NotImplementedError, match="means over rows or all sums"):
            model.fit(tf.ones((8, 6)), tf.ones((8, 2)), verbose=0)


def test_slices_and_synchronised_layers_exclude_each_other():
    with (
        strategies.mirrored(2).scope(),
        pytest.raises(NotImplementedError, match="micro_batch_size=4"),
    ):
        replica_runs.train("synchronized", micro_batch_size=4)


def test_a_step_sums_the_parameters_once_a_product():
    strategy, sizes = strategies.mirrored(2), []
    total = strategy.reduce

    def reduce(operation, value, axis):
        result = total(operation, value, axis)
        if tf.executing_eagerly() and operation == tf.distribute.ReduceOp.SUM:
            sizes.append(int(tf.size(result)))
        return result

    strategy.reduce = reduce
    with strategy.scope():
        replica_runs.train("plain", run_eagerly=True, rows=8, epochs=1, krylov_dimension=5)
    parameters = 6 * 5 + 5 + 5 * 2 + 2
    # Five Lanczos vectors and the previous step's place; before them the gradient, with the loss.
    assert [size for size in sizes if size > 2] == [parameters + 1] + [parameters] * 6
    # The rows of the replicas, and a loss for each damping that was tried (eight on the first
    # step), or twice that: the examination of eager code evaluates twice.
    assert sum(size == 2 for size in sizes) == 1
    assert 1 <= sum(size == 1 for size in sizes) <= 2 + 8 + 8
