import keras
import numpy as np
import pytest
import replica_runs
import tensorflow as tf

import keras_sfn

pytestmark = pytest.mark.slow


def mirrored(count):
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])


def assert_same(ours, theirs, tolerance):
    np.testing.assert_allclose(ours["losses"], theirs["losses"], atol=tolerance, rtol=tolerance)
    assert ours["rejected"] == theirs["rejected"]
    for name, values in ours["history"].items():
        np.testing.assert_allclose(values, theirs["history"][name], atol=tolerance, rtol=tolerance)
    for one, other in zip(ours["weights"], theirs["weights"], strict=True):
        np.testing.assert_allclose(one, other, atol=100 * tolerance)


@pytest.mark.parametrize("count", [2, 4])
def test_ten_steps_in_single_precision_as_one_device(count):
    one = replica_runs.train("plain")
    with mirrored(count).scope():
        several = replica_runs.train("plain")
    assert len(one["losses"]) == 10
    assert_same(several, one, 1e-5)


EQUAL = [name for name in replica_runs.CASES if name not in ("batch statistics", "dropout")]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", EQUAL)
def test_the_steps_of_two_replicas_are_those_of_one_device(case):
    one = replica_runs.train(case)
    with mirrored(2).scope():
        assert_same(replica_runs.train(case), one, 1e-9)
    if case == "NaN":
        assert one["rejected"] == 2
