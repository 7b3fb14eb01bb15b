import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.newton import step as step_lib

pytestmark = pytest.mark.slow


def quadratic(eigenvalues, symmetric):
    matrix = symmetric(eigenvalues)
    x = keras.Variable([1.0, -2.0, 0.5, 3.0][: len(eigenvalues)], dtype="float64")
    return (
        x,
        matrix,
        lambda: 0.5 * tf.tensordot(x.value, tf.linalg.matvec(matrix, x.value), 1),
    )


@pytest.mark.parametrize(("graph", "learning_rate"), [(False, 1.0), (False, 0.25), (True, 0.25)])
def test_figures_by_hand(symmetric, graph, learning_rate):
    eigenvalues = np.array([-3.0, 0.5, 2.0, 6.0])
    x, matrix, loss_fn = quadratic(eigenvalues, symmetric)
    before = x.numpy()
    optimizer = keras_sfn.SaddleFreeNewton(learning_rate, 10, damping=0.1)
    take = lambda: optimizer.minimize(loss_fn, [x])
    (tf.function(take) if graph else take)()
    last, after = optimizer.last_step, x.numpy()
    loss, new_loss = 0.5 * before @ matrix @ before, 0.5 * after @ matrix @ after
    assert last.outcome == "accepted"
    assert last.loss == pytest.approx(loss)
    assert last.new_loss == pytest.approx(new_loss)
    assert last.damping == 0.1
    np.testing.assert_allclose(last.ritz_values, eigenvalues, rtol=1e-9)
    assert last.ritz_min == pytest.approx(-3)
    assert last.ritz_max == pytest.approx(6)
    assert last.gradient_norm == pytest.approx(np.linalg.norm(matrix @ before))
    assert last.step_norm == pytest.approx(np.linalg.norm(after - before))
    # The quadratic model of a quadratic is right.
    assert last.predicted_reduction == pytest.approx(loss - new_loss)
    assert last.reduction_ratio == pytest.approx(1)
    assert last.rejected_steps == 0


def test_the_ratio_of_several_inner_steps_is_that_of_them_together(symmetric):
    x, _, loss_fn = quadratic((1.0, 2.0, 3.0, 4.0), symmetric)
    optimizer = keras_sfn.SaddleFreeNewton(0.5, 10, damping=0.0, inner_steps=3)
    optimizer.minimize(loss_fn, [x])
    last = optimizer.last_step
    # Each inner step halves the distance, and so quarters the loss, of a convex quadratic.
    assert last.new_loss == pytest.approx(last.loss / 64)
    assert last.predicted_reduction == pytest.approx(last.loss - last.new_loss)
    assert last.reduction_ratio == pytest.approx(1)


def test_the_ratio_of_a_step_off_an_exact_saddle():
    x = keras.Variable([0.0, 0.0], dtype="float64")
    optimizer = keras_sfn.SaddleFreeNewton(learning_rate=0.5)
    optimizer.minimize(lambda: 5 * x.value[0] ** 2 - x.value[1] ** 2, [x])
    last = optimizer.last_step
    assert last.step_norm == pytest.approx(0.5)
    assert last.predicted_reduction == pytest.approx(0.25)
    assert last.reduction_ratio == pytest.approx(1)


def test_rejected_steps_have_no_length():
    x = keras.Variable([1.0, 2.0])
    # A slope that is not there: the value stays at zero wherever the step goes.
    flat = tf.custom_gradient(lambda z: (0 * z, lambda slope: slope))
    loss_fn = lambda: tf.reduce_sum(flat(x.value))
    optimizer = keras_sfn.SaddleFreeNewton()
    for _ in range(2):
        optimizer.minimize(loss_fn, [x])
    last = optimizer.last_step
    assert (last.outcome, last.step_norm, last.reduction_ratio) == ("no decrease", 0, 0)
    assert last.gradient_norm == pytest.approx(2**0.5)
    assert last.rejected_steps == 2


def _bad_product(x, at):
    @tf.custom_gradient
    def loss(v):
        @tf.custom_gradient
        def gradient(v, upstream):
            return 2 * v * upstream, lambda _: (v * np.nan, v[0] * 0)

        return tf.reduce_sum(v**2), lambda upstream: gradient(v, upstream)

    return loss(tf.convert_to_tensor(x))


@pytest.mark.parametrize(
    ("outcome", "loss_fn", "options"),
    [
        ("loss not finite", lambda x, at: tf.reduce_sum(x.value**2) * np.nan, {}),
        ("loss not finite", lambda x, at: tf.reduce_sum(x.value**2) - np.inf, {}),
        ("gradient not finite", lambda x, at: tf.reduce_sum(tf.sqrt(x.value - at)), {}),
        ("product not finite", _bad_product, {"hvp_mode": "reverse_over_reverse"}),
        ("candidate not finite", lambda x, at: tf.reduce_sum(_wall(x.value, at, np.nan)), {}),
        ("candidate not finite", lambda x, at: tf.reduce_sum(_wall(x.value, at, np.inf)), {}),
        ("candidate not finite", lambda x, at: tf.reduce_sum(_wall(x.value, at, -np.inf)), {}),
    ],
)
@pytest.mark.parametrize(
    ("damping", "graph"), [("search", False), ("adaptive", False), (0.1, False), ("search", True)]
)
def test_outcomes_that_are_not_finite_name_the_first_cause(
    outcome, loss_fn, options, damping, graph
):
    x, at = keras.Variable([1.0, 2.0]), np.array([1.0, 2.0], "float32")
    optimizer = keras_sfn.SaddleFreeNewton(
        damping=damping, weight_decay=0.1, jit_compile=False, **options
    )
    take = lambda: optimizer.minimize(lambda: loss_fn(x, at), [x])
    take = tf.function(take) if graph else take
    if graph:
        take()
    else:
        with pytest.warns(RuntimeWarning, match=outcome):
            take()
    last = optimizer.last_step
    assert last.outcome == outcome
    assert (last.step_norm, last.reduction_ratio, last.rejected_steps) == (0, 0, 1)
    assert (len(last.ritz_values) == 0) == (outcome != "candidate not finite")
    np.testing.assert_array_equal(x.numpy(), at)


def _wall(x, at, height):
    """x^2, and `height` everywhere but at the start."""
    return x**2 + tf.where(tf.reduce_all(x == at), 0.0, height)


def test_a_step_on_fewer_variables_than_built_for():
    first, second = keras.Variable([1.0, 2.0, 3.0]), keras.Variable([4.0])
    optimizer = keras_sfn.SaddleFreeNewton(damping=0.1)
    optimizer.build([first, second])
    optimizer.minimize(lambda: second.value[0] ** 2, [second])
    np.testing.assert_allclose(optimizer.last_step.ritz_values, [2])
    optimizer.minimize(lambda: second.value[0] ** 2 + tf.norm(first.value), [first, second])
    assert len(optimizer.last_step.ritz_values) == 4


def test_figures_are_no_part_of_the_optimizers_variables():
    x = keras.Variable([1.0, 2.0])
    optimizer = keras_sfn.SaddleFreeNewton()
    optimizer.minimize(lambda: tf.reduce_sum(x.value**2), [x])
    names = [variable.name for variable in optimizer.variables]
    assert "damping" in names
    assert "last_step" not in names


def test_there_is_none_before_the_first_step():
    optimizer, x = keras_sfn.SaddleFreeNewton(), keras.Variable([1.0])
    with pytest.raises(ValueError, match="there was none yet"):
        optimizer.last_step  # noqa: B018
    optimizer.build([x])
    with pytest.raises(ValueError, match="there was none yet"):
        optimizer.last_step  # noqa: B018


def test_it_is_read_outside_compiled_functions():
    optimizer, x = keras_sfn.SaddleFreeNewton(), keras.Variable([1.0])

    @tf.function
    def train():
        optimizer.minimize(lambda: x.value[0] ** 2, [x])
        return optimizer.last_step.loss

    with pytest.raises(ValueError, match="Read it after the function has returned"):
        train()


def test_every_outcome_is_documented():
    for outcome in step_lib.OUTCOMES:
        assert f'`"{outcome}"`' in keras_sfn.LastStep.__doc__
