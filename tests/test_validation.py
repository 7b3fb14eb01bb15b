import math

import numpy as np
import pytest
import tensorflow as tf

from keras_sfn import validation


@pytest.mark.parametrize("value", [0, -3, 1.0, "2", True, None])
def test_integer_at_least(value):
    with pytest.raises(ValueError, match=r"`k` must be an integer >= 1.*k="):
        validation.integer_at_least("k", value, 1)


@pytest.mark.parametrize("value", [1, 5, np.int64(3)])
def test_integer_at_least_accepts(value):
    validation.integer_at_least("k", value, 1)
    validation.integer_at_least("k", None, 1, optional=True)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "1", True, None])
def test_positive(value):
    with pytest.raises(ValueError, match=r"`r` must be a finite number > 0.*r="):
        validation.positive("r", value)


def test_positive_accepts():
    validation.positive("r", 0.5)
    validation.positive("r", 3)
    validation.positive("r", None, optional=True)


@pytest.mark.parametrize("value", [1, 0, None, "True"])
def test_boolean(value):
    with pytest.raises(ValueError, match="`b` must be True or False"):
        validation.boolean("b", value)


@pytest.mark.parametrize("value", [1, "True", None])
def test_one_of_tells_true_from_one(value):
    with pytest.raises(ValueError, match="`j` must be one of True, False, 'auto'"):
        validation.one_of("j", value, (True, False, "auto"))


@pytest.mark.parametrize("value", [[], (), "1.0", 3.0, None, [1.0, 0.0], [1.0, "a"]])
def test_positive_values(value):
    with pytest.raises(ValueError, match="`grid"):
        validation.positive_values("grid", value)


def test_positive_values_gives_floats():
    assert validation.positive_values("grid", [1, 0.5]) == (1.0, 0.5)


@pytest.mark.parametrize("value", [-1, -1e-9, math.nan, math.inf, "newton", None, True])
def test_damping_value(value):
    with pytest.raises(ValueError, match='`damping` must be "auto", "search", "adaptive", a'):
        validation.damping_value(value)


def test_learning_rate():
    assert validation.learning_rate(1) == 1.0
    assert isinstance(validation.learning_rate(1), float)
    marker = object()
    assert validation.learning_rate(marker) is marker
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match="`learning_rate` must be"):
            validation.learning_rate(bad)


@pytest.mark.parametrize("name", validation.REFUSED_KERAS_OPTIONS)
def test_keras_options_that_would_change_steps(name):
    validation.refuse_keras_options({name: None})
    with pytest.raises(ValueError, match=f"`{name}` is not supported.*{name}=1.0.*use|`{name}`"):
        validation.refuse_keras_options({name: 1.0})


def test_unknown_option():
    with pytest.raises(ValueError, match=r"`momentum` is not an argument.*momentum=0.9"):
        validation.refuse_keras_options({"momentum": 0.9})


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_within_takes_the_ends(value):
    validation.within("momentum", value, 0, 1)
    validation.within("momentum", None, 0, 1, optional=True)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, None, True, "1"])
def test_within_refuses_the_rest(value):
    with pytest.raises(ValueError, match=r"`momentum` must be a finite number in \[0, 1\]\. Rec"):
        validation.within("momentum", value, 0, 1)


def test_within_without_an_upper_end():
    validation.within("decay", 1e30, 0, math.inf)
    with pytest.raises(ValueError, match=r"`decay` must be a finite number >= 0 or None"):
        validation.within("decay", math.inf, 0, math.inf, optional=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("10", "'10'"),
        (None, "None"),
        (2.5, "2.5"),
        (np.zeros((30, 40)), "a ndarray of shape (30, 40) and dtype float64"),
        (tf.zeros((30, 40)), "a EagerTensor of shape (30, 40) and dtype float32"),
        (tf.Variable(tf.zeros(1000)), "a ResourceVariable of shape (1000,) and dtype float32"),
        (list(range(1000)), str(list(range(1000)))[:200] + "..."),
    ],
)
def test_errors_show_no_thousand_numbers(value, text):
    assert validation.shown(value) == text
