"""The probe against the dense Hessian."""

import keras
import numpy as np

import keras_sfn
from helpers import curvature_probe


def make(x, y):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, activation="tanh"), keras.layers.Dense(1)]
    )
    model.compile(optimizer="sgd", loss="mse")
    return model, keras_sfn.HessianOperator.from_model(model, x, y)


def test_follows_the_weights(float64):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 1))
    model, hessian = make(x, y)
    size = hessian.shape[0]
    probe = curvature_probe.CurvatureProbe(model, x, y, steps=size)
    seen = set()
    for seed in range(2):
        keras.utils.set_random_seed(seed)
        model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
        norm, lowest = probe()
        values = np.linalg.eigvalsh(hessian.to_dense())
        np.testing.assert_allclose(norm, np.linalg.norm(hessian.gradient()), rtol=1e-12)
        np.testing.assert_allclose(lowest, values[0], rtol=1e-8)
        seen.add(lowest)
    assert len(seen) == 2


def test_what_is_not_finite_is_told():
    x = np.ones((4, 3), "float32")
    model, _ = make(x, x[:, :1])
    probe = curvature_probe.CurvatureProbe(model, x, x[:, :1], steps=3)
    model.set_weights([np.full(w.shape, np.nan) for w in model.get_weights()])
    assert np.isnan(probe()).all()
