import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.backend import collectives
from tests import strategies


def on_replicas(step, *values):
    """Calls `step` once for two replicas, each with its own of every pair of values."""
    strategy = strategies.mirrored(2)

    def replica():
        own = [tf.constant(pair[collectives.index()]) for pair in values]
        return collectives.once(step, *own)

    return strategy.experimental_local_results(strategy.run(replica))


def test_a_step_runs_once_with_the_values_of_all_replicas():
    calls = []

    def step(values):
        calls.append(values)
        local = collectives.run(lambda own: 10 * own + collectives.index(), values)
        return collectives.total(local), collectives.local(local), local

    (total, first, own), (_, _, other) = on_replicas(step, (1, 2))
    assert len(calls) == 1
    assert (int(total), int(first), int(own), int(other)) == (31, 10, 10, 21)


def test_sums_inside_a_loop_of_a_compiled_step():
    matrices = np.random.default_rng(0).normal(size=(2, 3, 3))

    @tf.function
    def train():
        def step(parts):
            def body(index, vector):
                products = collectives.run(lambda own: tf.linalg.matvec(own, vector), parts)
                return index + 1, collectives.total(products)

            start = tf.constant(0), tf.ones(3, tf.float64)
            return tf.while_loop(lambda index, _: index < 4, body, start)[1]

        return on_replicas(step, tuple(matrices))[0]

    expected = np.linalg.matrix_power(matrices.sum(0), 4) @ np.ones(3)
    np.testing.assert_allclose(train(), expected, rtol=1e-12)


def test_the_step_is_on_the_device_of_the_first_replica():
    devices = []
    on_replicas(lambda value: devices.append((tf.constant(1.0) + 1).device), (1, 2))
    assert devices[0].endswith("CPU:0")


def test_in_one_process_there_is_nothing_to_agree_on():
    value = tf.constant([1.0, 2.0])
    assert on_replicas(lambda _: [collectives.agree(value) is value], (1, 2))[0] == [True]


def test_outside_the_replicas_there_is_no_step():
    with (
        strategies.mirrored(2).scope(),
        pytest.raises(RuntimeError, match=r"code of its replicas.*2 replicas.*`model.fit`"),
    ):
        collectives.once(lambda: None)


def test_the_number_of_replicas():
    assert collectives.number() == 1
    with strategies.mirrored(3).scope():
        assert collectives.number() == 3


def test_alone_without_a_strategy_or_with_one_that_names_a_device():
    assert collectives.alone()
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        assert collectives.alone()
    with strategies.mirrored(1).scope():
        assert not collectives.alone()


def test_tasks_are_shared_out_and_all_have_the_results():
    done = []

    def task(number):
        done.append(number)
        return [tf.fill((number,), float(number)), tf.constant(-1.0) * number]

    def step(_):
        tasks = [lambda number=number: task(number) for number in (1, 2, 3)]
        shapes = [[(number,), ()] for number in (1, 2, 3)]
        return collectives.shared(tasks, [1, 4, 9], shapes, tf.float32)

    for own in on_replicas(step, (1, 2)):
        found = [[value.numpy().tolist() for value in pair] for pair in own]
        assert found == [[[1.0], -1.0], [[2.0, 2.0], -2.0], [[3.0, 3.0, 3.0], -3.0]]
    assert sorted(done) == [1, 2, 3]


def test_tasks_are_balanced_by_what_they_cost():
    assert collectives.balanced([1, 4, 9, 4, 1], 2) == [1, 1, 0, 1, 0]
    assert collectives.balanced([], 3) == []


def test_what_each_replica_has_is_gathered():
    with strategies.mirrored(2).scope():
        found = collectives.gathered(tf.constant([5, 7]))
    np.testing.assert_array_equal(found, [[5, 7], [5, 7]])


@pytest.mark.parametrize("meets", [True, False])
def test_whether_a_function_sums_over_the_replicas_by_itself(meets):
    def function():
        context, value = tf.distribute.get_replica_context(), tf.constant(1.0)
        return context.all_reduce("sum", value) if meets else value

    found = []
    strategy = strategies.mirrored(2)
    strategy.run(lambda: found.append(collectives.meets_others(function)))
    assert found == [meets, meets]
