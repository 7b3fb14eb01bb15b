import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.objective import losses, micro_batches, objective, parameter_space


@pytest.fixture
def space():
    return parameter_space.ParameterSpace([keras.Variable([1.0, 2.0])])


def square(space):
    return lambda: (tf.reduce_sum(space.variables[0] ** 2), None)


def test_curvature_defaults_to_the_loss(space):
    frozen = losses.prepare(square(space), None, None, space, "auto", "auto", True)
    assert frozen.curvature is frozen.objective
    assert isinstance(frozen.objective, objective.Objective)
    assert frozen.hvp_mode == "auto"


def test_parts_are_losses_that_draw_as_the_step_does(space):
    def part_of(index, count):
        def loss_fn():
            noise = keras.random.uniform((), seed=keras.random.SeedGenerator(1))
            return tf.cast(index, "float32") * tf.reduce_sum(space.variables[0]) + noise, None

        return loss_fn if count == 3 else None

    frozen = losses.prepare(square(space), None, part_of, space, "auto", "auto", True)
    point = space.flatten(space.values())

    def value(index):
        return float(frozen.parts.part(tf.constant(index), 3).loss(point))

    frozen.parts.reseed(tf.constant([5, 0]))
    first = [value(0), value(2)]
    assert first[1] - first[0] == pytest.approx(6)
    frozen.parts.reseed(tf.constant([6, 0]))
    assert value(0) != first[0]


def test_slices_and_another_curvature(space):
    data = tf.ones((6, 2))

    def loss_of(part):
        return lambda: (tf.reduce_mean(part @ space.variables[0][:, None]), part)

    slices = micro_batches.Slices(data, 4, loss_of)
    graph = {}

    @tf.function
    def step():
        graph["frozen"] = losses.prepare(
            slices, square(space), None, space, "reverse_over_reverse", False, True
        )
        return graph["frozen"].objective.loss(space.flatten(space.values()))

    assert float(step()) == 3
    frozen = graph["frozen"]
    assert isinstance(frozen.objective, micro_batches.MicroBatches)
    assert isinstance(frozen.curvature, objective.Objective)
    assert "MatMul" in frozen.ops
    assert frozen.hvp_mode == "reverse_over_reverse"


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("jit", [True, False])
def test_a_step_in_a_graph_is_a_function_of_its_own(space, jit, whole):
    asked = []

    @tf.function
    def step():
        frozen = losses.prepare(square(space), None, None, space, "auto", jit, True)
        point = space.flatten(space.values())

        def compute(jit_products):
            asked.append(jit_products)
            return frozen.objective.loss(point)

        return losses.compiled(compute, frozen, whole=whole)()

    assert float(step()) == 5
    calls = [op for op in step.get_concrete_function().graph.get_operations() if "Call" in op.type]
    # With the whole Hessian XLA compiles the products alone.
    assert [op.get_attr("_XlaMustCompile") for op in calls] == [jit and not whole]
    assert set(asked) == {jit and whole}


def test_eager_code_compiles_nothing(space):
    frozen = losses.prepare(square(space), None, None, space, "auto", True, True)
    asked = []
    losses.compiled(asked.append, frozen, whole=True)()
    assert asked == [False]


@pytest.mark.parametrize(
    ("value", "finite", "expected"), [(3.0, True, 3), (3.0, False, 1), (np.nan, True, 1)]
)
def test_statistics_that_are_not_finite_are_not_carried_out(value, finite, expected):
    variables = [keras.Variable(1.0), keras.Variable(1, dtype="int32")]
    losses.carry_out(variables, [tf.constant(value), tf.constant(7)], tf.constant(finite))
    assert [float(v.numpy()) for v in variables] == [expected, 7]
