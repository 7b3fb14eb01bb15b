"""Programs as StableHLO text, their inputs and their outputs."""

import pytest
import tensorflow as tf

from benchmarks.gpu import stablehlo_export


def emits_stablehlo():
    identity = tf.function(lambda x: x, jit_compile=True, autograph=False)
    try:
        identity.experimental_get_compiler_ir(tf.zeros(()))(stage="stablehlo")
    except ValueError:
        return False
    return True


EMITS = emits_stablehlo()


def test_the_newest_tensorflow_emits_programs():
    assert EMITS or tuple(map(int, tf.__version__.split(".")[:2])) < (2, 21)


def make_function():
    """Two variables are read, one of them between assignments, and one is only assigned."""
    variables = [tf.Variable([1.0, 2.0]), tf.Variable(3, dtype=tf.int64), tf.Variable([[5.0]])]

    def function(x, y):
        factor, count, last = variables
        last.assign(y[:1, :1])
        total = tf.reduce_sum(x * factor)
        count.assign_add(1)
        return total, y + 1

    return tf.function(function, jit_compile=True, autograph=False), variables


def test_inputs_are_arguments_and_variables_and_outputs_are_results_and_assigned_variables():
    function, variables = make_function()
    arguments = (tf.constant([1.0, 10.0]), tf.ones((2, 3)))
    if not EMITS:
        with pytest.raises(NotImplementedError, match="emits no StableHLO"):
            stablehlo_export.export(function, arguments)
        return
    exported = stablehlo_export.export(function, arguments)
    inputs = {tuple(value.ravel()) for value in exported.inputs[2:]}
    assert [value.shape for value in exported.inputs[:2]] == [(2,), (2, 3)]
    assert inputs - {(5.0,)} == {(1.0, 2.0), (3,)}
    assert exported.outputs[0] == 21
    assert (exported.outputs[1] == 2).all()
    assert sorted(float(value.sum()) for value in exported.outputs[2:]) == [1.0, 4.0]
    # It was called once.
    assert int(variables[1]) == 4
    listed = stablehlo_export.signature(exported.text)
    assert listed[0][:2] == ["2xf32", "2x3xf32"]
    assert listed[1][:2] == ["f32", "2x3xf32"]
    assert "input_output_alias = []" in exported.text
    assert ".py" not in exported.text


def test_a_signature_is_read_from_the_text():
    text = (
        "module @x {\n  func.func private @f(%arg0: tensor<f32>) -> tensor<f32> {\n  }\n"
        '  func.func @main(%arg0: tensor<2x3xf32> loc("a"), %arg1: tensor<i64> {x = 1}) -> '
        "(tensor<f32>, tensor<4xi1>) {\n  }\n}\n"
    )
    assert stablehlo_export.signature(text) == (["2x3xf32", "i64"], ["f32", "4xi1"])
    with pytest.raises(ValueError, match="must hold a function `main`"):
        stablehlo_export.signature("module @x {\n}\n")
