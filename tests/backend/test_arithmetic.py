import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.backend import arithmetic, graphs


def counted(function, *shapes):
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    return arithmetic.operations(graphs.trace(function, *specs))


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (tf.matmul, [(5, 3), (3, 4)], 2 * 5 * 3 * 4),
        (lambda a, b: tf.matmul(a, b, transpose_a=True), [(3, 5), (3, 4)], 2 * 5 * 3 * 4),
        (tf.matmul, [(7, 5, 3), (7, 3, 4)], 7 * 2 * 5 * 3 * 4),
        (lambda a, b: tf.einsum("bij,jk->bik", a, b), [(7, 5, 3), (3, 4)], 7 * 2 * 5 * 3 * 4),
        (
            lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"),
            [(2, 8, 8, 3), (3, 3, 3, 4)],
            2 * 2 * 64 * 4 * 9 * 3,
        ),
        (lambda x: tf.tanh(x), [(6, 7)], 10 * 42),
        (lambda x: tf.identity(x), [(6, 7)], 0),
        (lambda x: tf.argmax(x, 1), [(6, 7)], 0),
    ],
)
def test_operations_are_those_of_the_formula(function, shapes, expected):
    assert counted(function, *shapes) == (expected, 0)


def test_unknown_rows_are_counted_for_each():
    known, for_row = counted(lambda x, w: tf.tanh(tf.matmul(x, w)), (None, 3), (3, 4))
    assert (known, for_row) == (0, 2 * 3 * 4 + 10 * 4)


def test_a_gradient_of_convolutions_takes_three_times_the_loss():
    kernel = tf.constant(np.ones((3, 3, 16, 16), "float32"))

    def loss(x):
        return tf.nn.conv2d(x, kernel, 1, "SAME")

    def gradient(x, k):
        with tf.GradientTape() as tape:
            tape.watch([x, k])
            y = tf.nn.conv2d(x, k, 1, "SAME")
        return tape.gradient(y, [x, k])

    once = counted(loss, (2, 8, 8, 16))[0]
    assert 1.9 < counted(gradient, (2, 8, 8, 16), (3, 3, 16, 16))[0] / once < 3.2


def test_loops_are_not_looked_into():
    def loop(x):
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y @ y), (0, x))[1]

    assert counted(loop, (50, 50))[0] < 50**3


def test_layers_of_keras_are_counted():
    model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(64, "tanh")])
    _, for_row = counted(lambda x: model(x), (None, 32))
    assert 2 * 32 * 64 <= for_row < 2 * 32 * 64 + 40 * 64


@pytest.mark.parametrize("rows", [50, None])
def test_elements_and_products_of_matrices_are_told_apart(rows):
    def share(function):
        specs = [tf.TensorSpec(shape, tf.float32) for shape in ((rows, 40), (40, 40))]
        return arithmetic.share_of_elements(graphs.trace(function, *specs))

    assert share(tf.matmul) == 0
    assert share(lambda x, w: tf.tanh(x)) == 1
    both = 10 * 40 / (10 * 40 + 2 * 40 * 40)
    assert share(lambda x, w: tf.tanh(tf.matmul(x, w))) == pytest.approx(both)


def test_kernels_are_ops_that_compute():
    graph = graphs.trace(
        lambda x: tf.argmax(tf.reshape(tf.sin(x) + 1.0, (3, 2)), 1), tf.TensorSpec((2, 3))
    )
    assert arithmetic.kernels(graph) == 2
