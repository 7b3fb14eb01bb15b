import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.newton import directions
from keras_sfn.objective import objective, parameter_space
from keras_sfn.optimizers import memory, step_kinds

METHOD = step_kinds.Method(directions.saddle_free_direction, leave_saddles=True)
AUTO = {
    "krylov_dimension": "auto",
    "damping": "auto",
    "curvature_batch_size": "auto",
    "use_previous_step": True,
    "max_step_norm": None,
    "hvp_mode": "auto",
}


def kinds_of(**options):
    return step_kinds.StepKinds(AUTO | options, METHOD)


def loss_of(outputs_of):
    variable = keras.Variable([0.5, 1.5])

    def loss_fn():
        value = tf.convert_to_tensor(variable)
        outputs = outputs_of(value)
        return tf.reduce_sum(value**2 if outputs is None else outputs**2), outputs

    return objective.Objective(loss_fn, parameter_space.ParameterSpace([variable]))


def in_a_loop(value):
    return tf.while_loop(lambda i, _: i < 3, lambda i, v: (i + 1, tf.sin(v)), (0, value))[1]


@pytest.mark.parametrize(
    ("outputs_of", "preconditioner", "directions", "damping"),
    [
        (tf.sin, "kronecker", 1, "adaptive"),
        (in_a_loop, "kronecker", 3, "adaptive"),
        (lambda value: None, None, 10, "search"),
    ],
)
def test_the_loss_decides(outputs_of, preconditioner, directions, damping):
    kinds = kinds_of()
    assert kinds.in_use["krylov_dimension"] == 1
    kinds.decide(loss_of(outputs_of))
    used = kinds.in_use
    assert (used["preconditioner"], used["krylov_dimension"]) == (preconditioner, directions)
    assert used["damping"] == damping
    assert kinds.settings.krylov_dimension == directions
    assert kinds.preconditioned == (preconditioner is not None)
    # Once and for all: state and trace belong to it.
    kinds.decide(loss_of(tf.sin))
    assert kinds.in_use == used


def test_an_integer_is_not_asked_about():
    kinds = kinds_of(krylov_dimension=4)
    assert not kinds.with_factors
    kinds.decide(loss_of(tf.sin))
    assert kinds.settings.krylov_dimension == 4
    assert not kinds.preconditioned


def test_under_a_strategy_steps_are_plain():
    kinds, loss = kinds_of(), loss_of(tf.sin)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        kinds.decide(loss)
    assert not kinds.preconditioned


def test_rows_of_the_curvature():
    assert kinds_of().curvature_rows == "auto"
    assert kinds_of(krylov_dimension=4).curvature_rows is None
    assert kinds_of(krylov_dimension=4, curvature_batch_size=9).curvature_rows == 9
    # What was prepared is for the kinds that are preconditioned.
    kinds = kinds_of()
    assert not kinds.whole_batch
    kinds.decide(loss_of(lambda value: None))
    assert kinds.whole_batch
    assert not kinds_of(krylov_dimension=4, curvature_batch_size=9).whole_batch


def test_the_largest_basis_is_that_of_any_open_kind():
    assert kinds_of().most_rows(100) == 11
    assert kinds_of(use_previous_step=False).most_rows(100) == 10
    assert kinds_of(krylov_dimension=4).most_rows(100) == 5
    assert kinds_of().most_rows(3) == 3


def test_memory_is_that_of_the_kind_in_use(monkeypatch):
    space = parameter_space.ParameterSpace([keras.Variable(np.zeros(100), dtype="float32")])
    monkeypatch.setattr(memory, "device_memory", lambda: (18 * 400, "machine"))
    kinds_of().refuse_too_large(space, 0)
    with pytest.raises(MemoryError, match="n = 100 parameters with a basis of k = 11"):
        kinds_of(krylov_dimension=10).refuse_too_large(space, 0)
    with pytest.raises(MemoryError, match="2000 numbers of the preconditioner"):
        kinds_of().refuse_too_large(space, 2000)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="`krylov_dimension` must be"):
        kinds_of(krylov_dimension=0)
