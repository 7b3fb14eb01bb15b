"""Two models trained at the same time in one process."""

import threading

import keras
import numpy as np
import pytest

import keras_sfn

pytestmark = pytest.mark.slow


def train(seed, start=None):
    """Trains a model that has statistics, dropout and a normalisation, and returns its losses."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(64, 5)).astype("float32")
    y = np.tanh(x @ rng.normal(size=(5, 2))).astype("float32")
    initial = lambda layer: keras.initializers.GlorotUniform(seed=10 * seed + layer)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(6 + seed, activation="tanh", kernel_initializer=initial(0)),
            keras.layers.BatchNormalization(),
            keras.layers.LayerNormalization(),
            keras.layers.Dropout(0.2, seed=seed),
            keras.layers.Dense(2, kernel_initializer=initial(1)),
        ]
    )
    options = {"krylov_dimension": 3} if seed % 2 else {}
    model.compile(keras_sfn.SaddleFreeNewton(jit_compile=False, **options), "mse")
    if start is not None:
        start.wait()
    losses = model.fit(x, y, batch_size=16, epochs=3, verbose=0, shuffle=False).history["loss"]
    return losses, model.get_weights(), model.optimizer.last_step


def test_two_at_a_time_give_what_each_gives_alone():
    seeds = (1, 2)
    alone = {seed: train(seed) for seed in seeds}
    together, start = {}, threading.Barrier(len(seeds))

    def run(seed):
        together[seed] = train(seed, start)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in seeds:
        losses, weights, last = together[seed]
        np.testing.assert_allclose(losses, alone[seed][0], rtol=1e-6)
        for got, expected in zip(weights, alone[seed][1], strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        assert last.outcome == alone[seed][2].outcome
    assert together[1][0] != together[2][0]
