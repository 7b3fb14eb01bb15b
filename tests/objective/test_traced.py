import keras
import tensorflow as tf

from keras_sfn.objective import objective, parameter_space, traced


def trace_of(loss_fn, *start):
    variable = keras.Variable(start or [0.5, 1.5])
    space = parameter_space.ParameterSpace([variable])
    return traced.trace(objective.Objective(lambda: loss_fn(variable.value), space)), variable


def in_a_loop(value):
    return tf.while_loop(lambda i, _: i < 3, lambda i, v: (i + 1, tf.sin(v)), (0, value))[1]


def test_ops_are_those_of_the_loss_without_its_gradient():
    found, _ = trace_of(lambda v: (tf.reduce_sum(tf.nn.relu(v)), None))
    assert "Relu" in found.ops
    assert "ReluGrad" not in found.ops
    assert not found.has_loops
    assert not found.stops_gradient
    assert found.error is None


def test_loops_are_seen():
    found, _ = trace_of(lambda v: (tf.reduce_sum(in_a_loop(v)), None))
    assert found.has_loops


def test_where_the_curvature_is_taken_is_found():
    rows = tf.ones((5, 2))
    found, _ = trace_of(lambda v: (tf.reduce_mean(tf.linalg.matvec(rows, v) ** 2), None))
    assert len(found.cut) == 1
    found, _ = trace_of(lambda v: (tf.reduce_sum(v**2), v))
    assert found.cut == ()


def test_outputs_are_described_and_updates_are_named():
    counter = keras.Variable(0.0, trainable=False)

    def loss_fn(value):
        counter.assign(counter + 1)
        return tf.reduce_sum(value), {"out": value[None], "none": None}

    found, _ = trace_of(loss_fn)
    assert found.outputs["out"] == tf.TensorSpec((1, 2), tf.float32)
    assert found.outputs["none"] is None
    assert [v is counter for v in found.updated] == [True]
    assert float(counter.numpy()) == 0


def test_stopped_gradients_are_seen():
    found, _ = trace_of(lambda v: (tf.reduce_sum(v * tf.stop_gradient(v)), None))
    # As an objective evaluates it.
    assert found.stops_gradient


def test_code_that_runs_only_eagerly_has_no_graph():
    found, _ = trace_of(lambda v: (tf.reduce_sum(v) * float(v.numpy()[0]), None))
    assert found.graph is None
    assert isinstance(found.error, AttributeError)
    assert found.cut == ()
