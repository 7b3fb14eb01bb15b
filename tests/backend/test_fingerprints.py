import pytest
import tensorflow as tf

from keras_sfn.backend import fingerprints


def digest(function, name="x", shape=(3,)):
    graph = tf.__internal__.FuncGraph("any")
    with graph.as_default():
        x = tf.compat.v1.placeholder("float32", shape, name)
        output = function(x)
    return fingerprints.of_graph(graph, {x.op.name: "x"}, [output])


def called(factor):
    """A function in a function, whose names go on counting."""
    inner = tf.function(lambda x: x * factor, autograph=False)
    return lambda x: tf.function(lambda y: inner(y) + 1, autograph=False)(x)


def branch(factor):
    return lambda x: tf.cond(x[0] > 0, lambda: x * factor, lambda: x)


def loop(count):
    return lambda x: tf.while_loop(
        lambda i, _: i < count, lambda i, y: (i + 1, y * y), (tf.constant(0), x)
    )[1]


@pytest.mark.parametrize("make", [called, branch, loop])
def test_names_do_not_count_and_what_is_inside_does(make):
    assert digest(make(2)) == digest(make(2), name="other")
    assert digest(make(2)) != digest(make(3))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (tf.nn.tanh, tf.nn.sigmoid),
        (lambda x: x - 2 * x, lambda x: 2 * x - x),
        (lambda x: x + 1, lambda x: x + 2),
        (lambda x: tf.reduce_sum(x, 0), lambda x: tf.reduce_sum(x, 0, keepdims=True)),
        (lambda x: tf.unstack(x)[0], lambda x: tf.unstack(x)[1]),
        (lambda x: tf.cast(x, "float64"), lambda x: tf.cast(x, "float16")),
    ],
)
def test_graphs_that_differ_have_two_digests(one, other):
    assert digest(one) != digest(other)
    assert digest(one) == digest(one)


def test_another_device_is_another_digest():
    def on_device(x):
        with tf.device("/CPU:0"):
            return tf.tanh(x)

    assert digest(on_device) != digest(tf.tanh)


def test_calls_of_python_code_are_refused():
    with pytest.raises(ValueError, match="Python code"):
        digest(lambda x: tf.py_function(lambda y: y, [x], "float32"))


def test_own_gradients_are_told_apart():
    @tf.custom_gradient
    def function(x):
        return tf.identity(x), lambda upstream: upstream

    graph = tf.__internal__.FuncGraph("any")
    with graph.as_default():
        x = tf.constant(1.0)
        assert fingerprints.own_gradients(graph) == frozenset()
        function(x)
        assert len(fingerprints.own_gradients(graph)) == 1
        function(x)
        assert len(fingerprints.own_gradients(graph)) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1.0, 2.0], [1.0, 3.0]),
        ([1.0, 2.0], [[1.0, 2.0]]),
        ([1.0], [1]),
        (["a"], ["b"]),
        ("a", "b"),
    ],
)
def test_tensors_are_told_by_their_numbers_shape_and_dtype(one, other):
    assert fingerprints.of_tensor(tf.constant(one)) == fingerprints.of_tensor(tf.constant(one))
    assert fingerprints.of_tensor(tf.constant(one)) != fingerprints.of_tensor(tf.constant(other))
