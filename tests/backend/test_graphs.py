import keras
import pytest
import tensorflow as tf

from keras_sfn.backend import graphs, second_derivatives


def test_op_types_include_nested_functions():
    inner = tf.function(lambda x: tf.nn.relu(x))

    def function(x):
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, tf.tanh(inner(y))), (0, x))

    ops = graphs.op_types(graphs.trace(function, tf.TensorSpec((2,))))
    assert {"Tanh", "Relu"} <= ops
    assert ops & graphs.CONTROL_FLOW


@pytest.mark.parametrize(
    "draw",
    [tf.random.normal, tf.random.uniform, tf.random.truncated_normal],
)
def test_unseeded_randomness_is_refused(draw):
    ops = graphs.op_types(graphs.trace(lambda x: x + draw((2,)), tf.TensorSpec((2,))))
    with pytest.raises(ValueError, match=r"the same function.*Random|Truncated.*keras\.random"):
        graphs.refuse_unrepeatable(ops)


def test_assigning_to_a_variable_of_tensorflow_is_refused():
    counter = tf.Variable(0.0)
    ops = graphs.op_types(graphs.trace(lambda x: x + counter.assign_add(1.0), tf.TensorSpec((2,))))
    with pytest.raises(ValueError, match=r"AssignAddVariableOp.*keras\.Variable"):
        graphs.refuse_unrepeatable(ops)


def test_reading_a_batch_is_refused():
    iterator = iter(tf.data.Dataset.range(3).repeat())
    ops = graphs.op_types(
        graphs.trace(lambda x: x + tf.cast(next(iterator), "float32"), tf.TensorSpec((2,)))
    )
    with pytest.raises(ValueError, match=r"IteratorGetNext.*outside the loss"):
        graphs.refuse_unrepeatable(ops)


def test_the_randomness_of_keras_is_let_through():
    seeds = keras.random.SeedGenerator(0)

    def loss_fn(x):
        with keras.StatelessScope():
            return keras.random.dropout(x, 0.5, seed=seeds)

    graphs.refuse_unrepeatable(graphs.op_types(graphs.trace(loss_fn, tf.TensorSpec((2,)))))


def test_ops_that_stand_in_for_others_do_not_count():
    def function(x):
        with second_derivatives.exact():
            return tf.image.resize(x, (8, 8))

    graph = graphs.trace(function, tf.TensorSpec((1, 4, 4, 1)))
    assert "ResizeBilinear" in {op.type for op in graph.get_operations()}
    assert "ResizeBilinear" not in graphs.op_types(graph)


def test_path_is_what_lies_between():
    def function(x):
        unused = tf.tanh(x)
        del unused
        return tf.exp(x) + tf.sqrt(tf.constant([2.0, 3.0]))

    graph = graphs.trace(function, tf.TensorSpec((2,)))
    assert {"Exp", "AddV2"} <= {op.type for op in graphs.path(graph, graph.inputs, graph.outputs)}
    assert not {"Tanh", "Sqrt"} & {
        op.type for op in graphs.path(graph, graph.inputs, graph.outputs)
    }


def test_nested_nodes_are_those_of_all_called_functions():
    inner = tf.function(lambda x: tf.nn.relu(x))

    def function(x):
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, inner(y)), (0, tf.exp(x)))

    graph = graphs.trace(function, tf.TensorSpec((2,)))
    [loop] = [op for op in graph.get_operations() if "While" in op.type]
    kinds = {node.op for node in graphs.nested_nodes(graph, loop)}
    assert {"Relu", "Less"} <= kinds
    assert "Exp" not in kinds


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("net/dense/MatMul", "net/dense"),
        ("gradient_tape/net/dense/MatMul/MatMul_1", "net/dense"),
        ("net/inner/dense/mul", "net/inner"),
        ("concat", "concat"),
    ],
)
def test_layer_names(name, layer):
    assert graphs.layer_name(name) == layer
