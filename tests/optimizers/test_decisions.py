import keras
import numpy as np
import pytest
from absl import logging

import keras_sfn


@pytest.fixture
def said(monkeypatch):
    """Lines of the log, with their levels."""
    lines = []
    monkeypatch.setattr(
        logging, "log", lambda level, text, *rest: lines.append((level, text % rest))
    )
    return lines


def optimizer(**arguments):
    built = keras_sfn.SaddleFreeNewton(**arguments)
    built.build([keras.Variable(np.zeros(3), name="weights")])
    return built


def traced(**arguments):
    variable = keras.Variable(np.ones(3))
    one = keras_sfn.SaddleFreeNewton(jit_compile=False, **arguments)
    one.minimize(lambda: keras.ops.sum(variable**2), [variable])
    return one


def test_who_adopts_decisions_is_as_who_made_them_and_says_so_once(said):
    one = traced()
    found = one.traced_decisions()
    before = list(said)
    assert before
    other = optimizer()
    for _ in range(2):
        other.adopt(found)
    assert said == 2 * before
    assert other.traced_decisions() == found
    assert other.options_in_use["preconditioner"] is None or one.options_in_use["preconditioner"]


def test_what_a_trace_depends_on_is_told():
    assert optimizer().trace_key() == optimizer().trace_key()
    assert optimizer().trace_key() != optimizer(seed=1).trace_key()
    several = optimizer()
    several.expect_batches(3)
    assert several.trace_key() != optimizer().trace_key()
    assert traced().trace_key() != optimizer(jit_compile=False).trace_key()


def test_variables_that_are_not_saved():
    one = optimizer()
    saved = {id(variable) for variable in one.variables}
    assert len(one.unsaved_variables) == 2
    assert not saved & {id(variable) for variable in one.unsaved_variables}
