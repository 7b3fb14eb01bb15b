"""Each adaptive number is driven to its end; training comes back from there."""

import keras
import numpy as np
import pytest

from keras_sfn.newton import effort

# What each number of the optimizer's state is set to, by the end of its variable's name.
EXTREMES = {
    "curvature_shift": [1e28, 1e-28],
    "damping": [1e28, 1e-28],
    "last_curvature": [1e28, 0.0],
    "curvature_moments": [1e20, 1e-20],
    "curvature_row_squares": [1e30, 1e-30],
    "rejections_in_a_row": [1000],
    "effort": [
        effort.State(*effort.INITIAL)._replace(level=3.0, pause=1e9),
        effort.State(*effort.INITIAL)._replace(level=0.0, phase=1.0, before=1e30),
    ],
}


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3)).astype("float32")
    y = np.sin(x[:, :1] + x[:, 1:2] * x[:, 2:])
    layers = [keras.layers.Dense(12, "tanh"), keras.layers.Dense(12, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile("saddle_free_newton", "mse")
    train(model, x, y, 25)
    state = [variable.numpy() for variable in model.optimizer.variables]
    weights = model.get_weights()
    untouched = train(model, x, y, 31)
    return model, x, y, weights, state, untouched[30]


def train(model, x, y, steps):
    fit = model.fit(x, y, batch_size=len(x), epochs=steps, shuffle=False, verbose=0)
    return fit.history["loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in EXTREMES.items() for value in values]
)
def test_training_comes_back(trained, name, value):
    model, x, y, weights, state, untouched = trained
    model.set_weights(weights)
    for variable, numbers in zip(model.optimizer.variables, state, strict=True):
        variable.assign(numbers)
    [variable] = [v for v in model.optimizer.variables if v.path.endswith("/" + name)]
    variable.assign(np.broadcast_to(value, variable.shape))
    # As far in 80 steps as the untouched state in 30: the preconditioner is renewed after 15.
    assert min(train(model, x, y, 80)) < untouched
    if name == "curvature_shift":
        largest = model.optimizer._factors.factors().curvature.numpy().max()
        assert model.optimizer._factors.factors().shift.numpy() <= largest
