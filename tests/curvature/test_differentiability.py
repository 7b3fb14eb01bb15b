import keras
import numpy as np
import pytest
import tensorflow as tf

# The registry of gradients has no public door. It is read here alone, so that an op that a new
# TensorFlow marks as not differentiable does not pass unseen.
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework import ops as tf_ops

import keras_sfn
from keras_sfn.curvature import differentiability
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import parameter_space, traced

FLOATING = {
    dtype.as_datatype_enum
    for dtype in (tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64, tf.complex128)
}

# Marked as not differentiable, take and give floating tensors, and rightly so: what they give is
# constant almost everywhere, drawn at random, an index or a shape, or assigns a variable (refused
# by `graphs.refuse_unrepeatable`); the last are of TensorFlow 1, of TPUs, or of data pipelines.
RIGHTLY_CONSTANT = {
    "Assign",
    "AssignAdd",
    "AssignSub",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "BroadcastGradientArgs",
    "CTCGreedyDecoder",
    "ConcatOffset",
    "DenseToDenseSetOperation",
    "DenseToSparseSetOperation",
    "EditDistance",
    "GenerateBoundingBoxProposals",
    "Invert",
    "InvertPermutation",
    "LeftShift",
    "LoadAndRemapMatrix",
    "LookupTableFind",
    "LookupTableFindV2",
    "OneHot",
    "OnesLike",
    "ParameterizedTruncatedNormal",
    "RaggedRange",
    "RandomShuffle",
    "Range",
    "ReduceDataset",
    "RightShift",
    "SampleDistortedBoundingBox",
    "SampleDistortedBoundingBoxV2",
    "ScatterAdd",
    "ScatterDiv",
    "ScatterMul",
    "ScatterNdAdd",
    "ScatterNdSub",
    "ScatterNdUpdate",
    "ScatterSub",
    "SdcaOptimizer",
    "SdcaOptimizerV2",
    "Shape",
    "ShapeN",
    "Size",
    "SparseToSparseSetOperation",
    "StackPush",
    "StatelessRandomBinomial",
    "StatelessRandomPoisson",
    "StopGradient",
    "TPUReplicatedInput",
    "TensorArrayGradV3",
    "TensorArrayGradWithShape",
    "ZerosLike",
}


def floating(arguments):
    """Whether one of an op's arguments can be floating."""
    return any(a.type in FLOATING if a.type else a.type_attr or a.type_list_attr for a in arguments)


def test_every_op_marked_as_not_differentiable_is_known():
    marked = set()
    for name, entry in tf_ops._gradient_registry._registry.items():
        definition = op_def_registry.get(name)
        if entry["type"] is not None or definition is None:
            continue
        if floating(definition.input_arg) and floating(definition.output_arg):
            marked.add(name)
    random = {name for name in marked if "Random" in name or "Normal" in name or "Multi" in name}
    assert {"ResizeBilinearGrad", "HSVToRGB"} <= marked
    assert marked - random - RIGHTLY_CONSTANT - set(differentiability.DROPPED) == set()


def examine(function, size=4):
    v = keras.Variable(np.linspace(0.1, 0.9, size), dtype="float32", name="v")
    objective = objective_lib.Objective(
        lambda: (function(v.value), None), parameter_space.ParameterSpace([v])
    )
    found = traced.trace(objective)
    differentiability.refuse(found.graph, [v])
    return found.ops


def resize(x):
    return tf.raw_ops.ResizeBilinear(images=tf.reshape(x, (1, 2, 2, 1)), size=(4, 4))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda v: tf.reduce_sum(resize(v) ** 2), r"ResizeBilinearGrad.*tf\.image\.resize"),
        (
            lambda v: tf.reduce_sum(v[3] * tf.image.hsv_to_rgb(v[:3])[0]),
            "HSVToRGB.*before the first trained layer",
        ),
        (
            lambda v: tf.reduce_sum(tf.quantization.fake_quant_with_min_max_args(v) ** 2),
            "FakeQuantWithMinMaxArgsGradient.*without quantisation",
        ),
        (
            lambda v: tf.reduce_sum(v * tf.numpy_function(np.sin, [v], tf.float32)),
            r"PyFunc.*keras\.ops",
        ),
        (
            lambda v: tf.reduce_sum(tf.function(resize)(v) ** 2),
            "ResizeBilinearGrad",
        ),
        (
            lambda v: tf.while_loop(
                lambda i, _: i < 2,
                lambda i, y: (i + 1, y * tf.stop_gradient(y)),
                (0, v[0]),
            )[1],
            "`stop_gradient` inside a loop or branch",
        ),
    ],
)
def test_dropped_second_derivatives_are_refused(function, message):
    with pytest.raises(NotImplementedError, match=message):
        examine(function)


def test_the_same_ops_off_the_path_are_let_through():
    image = tf.constant(np.random.default_rng(0).uniform(size=(4,)), "float32")

    def function(v):
        data = tf.reduce_sum(resize(image)) + tf.reduce_sum(tf.image.hsv_to_rgb(image[:3]))
        tf.numpy_function(np.sin, [v], tf.float32)  # For looking at, not in the loss.
        return data * tf.reduce_sum(v**2)

    assert {"ResizeBilinear", "HSVToRGB"} <= examine(function)


@pytest.mark.parametrize("name", ["CudnnRNN", "CudnnRNNV2", "CudnnRNNV3"])
def test_recurrent_kernels_of_gpus_are_refused(name):
    """The op can be traced on any machine."""

    def function(v):
        weights = tf.concat([v] * 6, 0)
        arguments = {
            "input": tf.ones((2, 1, 1)),
            "input_h": tf.zeros((1, 1, 1)),
            "input_c": tf.zeros((1, 1, 1)),
            "params": weights,
            "rnn_mode": "lstm",
            "is_training": True,
        }
        if name == "CudnnRNNV3":
            arguments["sequence_lengths"] = [2]
        return tf.reduce_sum(getattr(tf.raw_ops, name)(**arguments).output)

    with pytest.raises(NotImplementedError, match=rf"{name}, in .*use_cudnn=False"):
        examine(function)


def in_model(layer, shape=(4, 4, 1)):
    model = keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(2, 2, activation="tanh", name="features"),
            layer,
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ],
        name="net",
    )
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(4, *shape)).astype("float32"), rng.normal(size=(4, 1))


def test_the_error_names_the_layer_in_fit_and_for_the_operator():
    layer = keras.layers.Lambda(
        lambda x: tf.raw_ops.ResizeBilinear(images=x, size=(5, 5)), name="enlarge"
    )
    model, x, y = in_model(layer)
    model.compile("saddle_free_newton", "mse")
    before = model.get_weights()
    with pytest.raises(NotImplementedError, match=r"in `net.*/enlarge"):
        model.fit(x, y, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(NotImplementedError, match=r"in `net.*/enlarge"):
        keras_sfn.HessianOperator.from_model(model, x, y)


def test_an_op_without_any_second_derivative_is_named_with_its_layer():
    layer = keras.layers.Lambda(lambda x: tf.nn.lrn(x), name="local")
    model, x, y = in_model(layer)
    model.compile("saddle_free_newton", "mse")
    with pytest.raises(NotImplementedError, match=r"through the op LRNGrad, in `net.*/local"):
        model.fit(x, y, verbose=0)


def test_weights_that_a_layer_reads_by_itself_are_refused():
    own = tf.Variable([1.0, 2.0])
    v = keras.Variable([1.0, 2.0], name="mine")
    v._value = own
    objective = objective_lib.Objective(
        lambda: (tf.reduce_sum(v.value * own), None), parameter_space.ParameterSpace([v])
    )
    with pytest.raises(ValueError, match=r"`mine` past Keras.*trainable=False"):
        differentiability.refuse(traced.trace(objective).graph, [v])
