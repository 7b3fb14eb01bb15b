import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.curvature import survey
from keras_sfn.objective import batches, parameter_space
from keras_sfn.optimizers import step_program


@pytest.fixture
def space():
    return parameter_space.ParameterSpace([keras.Variable([1.0, 2.0])])


def frozen(space, jit):
    batch = batches.of_function(lambda: tf.reduce_sum(space.variables[0] ** 2), space)
    seen = survey.survey(batch, "auto", jit, eager=tf.executing_eagerly())
    loss = batch.whole()
    return survey.FrozenLoss(loss, loss, None, seen)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("jit", [True, False])
def test_a_step_in_a_graph_is_a_function_of_its_own(space, jit, whole):
    asked = []

    @tf.function
    def step():
        loss = frozen(space, jit)
        point = space.flatten(space.values())

        def compute(jit_products):
            asked.append(jit_products)
            return loss.whole.loss(point)

        return step_program.compiled(compute, loss, whole)()

    assert float(step()) == 5
    calls = [op for op in step.get_concrete_function().graph.get_operations() if "Call" in op.type]
    # With the whole Hessian XLA compiles the products alone.
    assert [op.get_attr("_XlaMustCompile") for op in calls] == [jit and not whole]
    assert set(asked) == {jit and whole}


def test_eager_code_compiles_nothing(space):
    asked = []
    step_program.compiled(asked.append, frozen(space, True), True)()
    assert asked == [False]


@pytest.mark.parametrize(
    ("value", "finite", "expected"), [(3.0, True, 3), (3.0, False, 1), (np.nan, True, 1)]
)
def test_statistics_that_are_not_finite_are_not_carried_out(value, finite, expected):
    variables = [keras.Variable(1.0), keras.Variable(1, dtype="int32")]
    step_program.carry_out(variables, [tf.constant(value), tf.constant(7)], tf.constant(finite))
    assert [float(v.numpy()) for v in variables] == [expected, 7]
