import weakref

import pytest
import tensorflow as tf

from keras_sfn.backend import programs


def traced(variable, function):
    step = tf.function(lambda x: function(x, variable), autograph=False)
    return step.get_concrete_function(tf.TensorSpec((), "float32"))


def counting(x, variable):
    inner = tf.function(lambda y: y * variable, autograph=False, jit_compile=True)
    variable.assign_add(1.0)
    return {"product": tf.cond(x > 0, lambda: inner(x), lambda: x), "nothing": None}


def test_a_program_runs_on_other_variables_when_those_of_the_trace_are_gone(collect):
    variable, other = tf.Variable(2.0), tf.Variable(3.0)
    concrete = traced(variable, counting)
    assert concrete.captured_inputs[0] is variable.handle
    program = programs.Program(concrete)
    gone = weakref.ref(variable)
    del concrete, variable
    collect()
    assert gone() is None
    for _ in range(2):
        found = program([tf.constant(5.0), other.handle])
    assert found["nothing"] is None
    assert float(found["product"]) == 25
    assert float(program([tf.constant(-5.0), other.handle])["product"]) == -5
    assert float(other) == 6


def test_the_runtime_forgets_a_program_with_its_last_reference(collect):
    program = programs.Program(traced(tf.Variable(2.0), counting))
    runtime, names = programs.context.context(), list(program._names)
    collect()
    assert len(names) > 1
    assert all(runtime.has_function(name) for name in names)
    del program
    collect()
    assert not any(runtime.has_function(name) for name in names)


def test_a_program_and_the_function_that_it_was_made_of_do_not_take_each_other_away(collect):
    variable = tf.Variable(2.0)
    concrete = traced(variable, counting)
    program = programs.Program(concrete)
    del program
    collect()
    assert float(concrete(tf.constant(5.0))["product"]) == 15


def test_a_program_is_optimised_once_and_other_functions_as_before():
    def options():
        held = programs.context.context().function_call_options
        return programs.config_pb2.ConfigProto.FromString(held.config_proto_serialized)

    def call(*_):
        seen.append(options().graph_options.rewrite_options.meta_optimizer_iterations)
        raise RuntimeError("while it runs")

    seen, before = [], options()
    program = programs.Program(traced(tf.Variable(2.0), counting))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs.context.context(), "call_function", call)
        with pytest.raises(RuntimeError, match="while it runs"):
            program([tf.constant(5.0), tf.Variable(3.0).handle])
    assert seen == [programs.rewriter_config_pb2.RewriterConfig.ONE]
    assert options() == before


def test_outputs_that_are_no_tensors_are_refused():
    concrete = traced(
        tf.Variable(2.0), lambda x, variable: tf.RaggedTensor.from_row_lengths([x], [1])
    )
    with pytest.raises(TypeError, match="tensors or None"):
        programs.Program(concrete)
