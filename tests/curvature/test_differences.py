import numpy as np

from keras_sfn.curvature import differences

WHOLE = [slice(0, 3)]


def smooth(step):
    return np.array([np.sin(1 + step), np.exp(step), 3 * step])


def test_derivative_and_its_error():
    value, errors = differences.derivative(smooth, 1e-7, WHOLE)
    np.testing.assert_allclose(value, [np.cos(1), 1, 3], rtol=1e-11)
    assert np.linalg.norm(value - [np.cos(1), 1, 3]) <= 3 * errors[0] < 1e-9


def test_in_single_precision():
    phases = np.linspace(0, 3, 50)
    rounded = lambda step: np.sin(phases + step).astype("float32").astype("float64")
    value, errors = differences.derivative(rounded, 1e-4, [slice(0, 50)])
    assert np.linalg.norm(value - np.cos(phases)) <= 3 * errors[0] < 1e-4


def test_a_wild_function_does_not_lead_astray():
    """Beyond a distance of 1e-3 the function looks like noise of bounded size."""
    wild = lambda step: np.array([np.sin(2000 * step), np.cos(3000 * step + 1), np.sin(step)])
    value, _ = differences.derivative(wild, 1e-7, WHOLE)
    np.testing.assert_allclose(value, [2000, -3000 * np.sin(1), 1], rtol=1e-6)


def test_a_slice_without_a_derivative_is_judged_where_the_others_are():
    noise = np.random.default_rng(0)
    slices = [slice(0, 3), slice(3, 4), slice(4, 6)]

    def function(step):
        return np.concatenate([smooth(step), 1e-12 * noise.normal(size=1), smooth(step)[:2]])

    value, errors = differences.derivative(function, 1e-7, slices)
    np.testing.assert_allclose(value[:3], [np.cos(1), 1, 3], rtol=1e-9)
    assert abs(value[3]) <= 10 * errors[1] < 1e-6
