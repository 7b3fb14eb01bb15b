import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.curvature import survey
from keras_sfn.objective import batches, parameter_space

MATRIX = tf.constant(np.ones((90, 90)), tf.float32)


def batch_of(loss_fn):
    variable = keras.Variable([0.5, 1.5])
    space = parameter_space.ParameterSpace([variable])
    return batches.of_function(lambda: loss_fn(variable.value), space)


def wide_product(value):
    return tf.reduce_sum(tf.matmul(MATRIX, MATRIX[:, :2] * value))


def in_a_loop(value):
    step = lambda i, v: (i + 1, tf.sin(v))
    return tf.reduce_sum(tf.while_loop(lambda i, _: i < 3, step, (0, value))[1])


def test_one_trace_tells_all(monkeypatch):
    count = []

    def loss_fn(value):
        count.append(1)
        return tf.reduce_sum(value**2)

    found = survey.survey(batch_of(loss_fn), "auto")
    assert count == [1]
    assert (found.hvp_mode, found.jit_compile) == ("reverse_over_reverse", True)
    assert "Square" in found.traced.ops or "Pow" in found.traced.ops


def test_loops_decide_compilation():
    found = survey.survey(batch_of(in_a_loop), "auto", "auto")
    assert not found.jit_compile
    found = survey.survey(batch_of(in_a_loop), "auto", True)
    assert found.jit_compile
    found = survey.survey(batch_of(in_a_loop), "auto", "auto", True)
    assert found.jit_compile


def test_a_loss_with_forward_mode_keeps_forward_mode_or_is_warned_of(monkeypatch):
    warned = []
    monkeypatch.setattr(survey.logging, "log_first_n", lambda *args: warned.append(args[1]))

    def loss_fn(v):
        with tf.autodiff.ForwardAccumulator(v, tf.ones_like(v)) as accumulator:
            cubes = v**3
        return tf.reduce_sum(accumulator.jvp(cubes) ** 2)

    assert survey.survey(batch_of(loss_fn), "auto").hvp_mode == "forward_over_reverse"
    survey.survey(batch_of(in_a_loop), "auto")
    assert warned == []
    survey.survey(batch_of(loss_fn), "reverse_over_reverse")
    [message] = warned
    assert "ForwardAccumulator" in message


def test_what_has_no_right_second_derivative_is_refused():
    resize = lambda v: tf.raw_ops.ResizeBilinear(images=tf.reshape(v, (1, 2, 1, 1)), size=(4, 4))
    with pytest.raises(NotImplementedError, match="ResizeBilinearGrad"):
        survey.survey(batch_of(lambda v: tf.reduce_sum(resize(v) ** 2)), "auto")


def test_a_loss_that_runs_eagerly_is_evaluated_twice():
    values = iter([1.0, 1.0, 1.0, 1.0, 2.0, 3.0])
    loss = lambda v: tf.reduce_sum(v) * 0 + next(values)
    survey.survey(batch_of(loss), "auto", eager=True)
    next(values)
    with pytest.raises(ValueError, match=r"Two evaluations at the same point gave 2.0 and 3.0"):
        survey.survey(batch_of(loss), "auto", eager=True)


def test_a_loss_that_runs_only_eagerly():
    batch = batch_of(lambda v: tf.reduce_sum(v) * float(v.numpy()[0]))
    found = survey.survey(batch, "auto", eager=True)
    assert found.traced.error is not None
    assert not found.jit_compile
    with pytest.raises(AttributeError):
        survey.survey(batch, "auto")


def test_xla_waits_longer_where_a_step_has_fewer_products_and_a_loss_fewer_ops():
    def first(loss_fn, products):
        return survey.survey(batch_of(loss_fn), "auto").from_when_it_pays(products)

    several = lambda v: sum(wide_product(k * v) for k in range(4))
    short, longer = first(wide_product, 8), first(several, 8)
    assert 1 < longer.first_compiled_step < short.first_compiled_step
    assert first(wide_product, 1).first_compiled_step > 2 * short.first_compiled_step


def test_xla_does_not_wait_where_elements_are_most_of_the_work_and_it_would_pay_soon():
    def first(terms):
        loss_fn = lambda v: sum(tf.reduce_sum(tf.sin(k * v) * tf.tanh(v)) for k in range(terms))
        return survey.survey(batch_of(loss_fn), "auto").from_when_it_pays(8).first_compiled_step

    assert first(terms=16) == 0
    assert first(terms=1) > 300


def test_steps_of_one_gradient_are_compiled_at_once_or_never():
    later = survey.survey(batch_of(wide_product), "auto").from_when_it_pays(8)
    assert later.jit_compile
    assert not later.at_once_or_never().jit_compile
    assert later.at_once_or_never().first_compiled_step == 0
    asked = survey.survey(batch_of(wide_product), "auto", True).from_when_it_pays(8)
    assert asked.at_once_or_never() == asked


@pytest.mark.parametrize("asked", [True, False])
def test_xla_does_not_wait_where_it_was_asked_for_or_refused(asked):
    found = survey.survey(batch_of(wide_product), "auto", asked)
    assert found.from_when_it_pays(1).first_compiled_step == 0
