import keras
import pytest
import tensorflow as tf

from keras_sfn import graphs, second_derivatives


def test_op_types_include_nested_functions():
    inner = tf.function(lambda x: tf.nn.relu(x))

    def function(x):
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, tf.tanh(inner(y))), (0, x))

    ops = graphs.op_types(function, tf.TensorSpec((2,)))
    assert {"Tanh", "Relu"} <= ops
    assert ops & graphs.CONTROL_FLOW


@pytest.mark.parametrize(
    "draw",
    [tf.random.normal, tf.random.uniform, tf.random.truncated_normal],
)
def test_unseeded_randomness_is_refused(draw):
    ops = graphs.op_types(lambda x: x + draw((2,)), tf.TensorSpec((2,)))
    with pytest.raises(ValueError, match=r"the same function.*Random|Truncated.*keras\.random"):
        graphs.refuse_unrepeatable(ops)


def test_assigning_to_a_variable_of_tensorflow_is_refused():
    counter = tf.Variable(0.0)
    ops = graphs.op_types(lambda x: x + counter.assign_add(1.0), tf.TensorSpec((2,)))
    with pytest.raises(ValueError, match=r"AssignAddVariableOp.*keras\.Variable"):
        graphs.refuse_unrepeatable(ops)


def test_reading_a_batch_is_refused():
    iterator = iter(tf.data.Dataset.range(3).repeat())
    ops = graphs.op_types(lambda x: x + tf.cast(next(iterator), "float32"), tf.TensorSpec((2,)))
    with pytest.raises(ValueError, match=r"IteratorGetNext.*outside the loss"):
        graphs.refuse_unrepeatable(ops)


def test_the_randomness_of_keras_is_let_through():
    seeds = keras.random.SeedGenerator(0)

    def loss_fn(x):
        with keras.StatelessScope():
            return keras.random.dropout(x, 0.5, seed=seeds)

    graphs.examine(loss_fn, tf.TensorSpec((2,)))


def test_resizing_by_the_bare_op_is_refused_and_by_the_function_is_not():
    images = tf.TensorSpec((1, 4, 4, 1))
    bare = lambda x: tf.raw_ops.ResizeBilinear(images=x, size=(8, 8))
    with pytest.raises(NotImplementedError, match=r"through ResizeBilinear.*tf\.image\.resize"):
        graphs.examine(bare, images)

    def function(x):
        with second_derivatives.exact():
            return tf.image.resize(x, (8, 8))

    assert "ResizeBilinear" not in graphs.examine(function, images)
