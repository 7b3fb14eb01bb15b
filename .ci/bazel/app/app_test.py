"""A program in a larger workspace imports keras_sfn by its own name and trains."""

import keras
import numpy as np

import keras_sfn

assert "third_party/saddle_free/keras_sfn" in keras_sfn.__file__, keras_sfn.__file__
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("saddle_free_newton", "mse")
x = np.random.default_rng(0).normal(size=(64, 2))
losses = model.fit(x, x[:, :1], batch_size=64, epochs=10, verbose=0).history["loss"]
assert losses[-1] < 1e-3 * losses[0], losses
