"""Whether batches differ, and how noisy they are."""

import keras
import numpy as np
import tensorflow as tf

from keras_sfn.objective import batches, parameter_space
from keras_sfn.optimizers import batch_noise


def test_a_fingerprint_does_not_know_the_order_of_rows():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)).astype("float32"), rng.integers(0, 9, 50)
    order = rng.permutation(50)
    total, size = batches.fingerprint((x, y, None))
    again, _ = batches.fingerprint((x[order], y[order], None))
    other, _ = batches.fingerprint((x + 0.01, y, None))
    np.testing.assert_allclose(total, again, atol=1e-6 * float(tf.reduce_min(size)))
    assert np.all(np.abs(other - total) > 1e-5 * size)


def test_noise_and_signal_are_those_of_two_halves():
    x = tf.constant([[1.0], [3.0], [7.0], [9.0]])
    w = keras.Variable([2.0])
    space = parameter_space.ParameterSpace([w])
    batch = batches.Batch(x, lambda rows: lambda: (tf.reduce_mean(rows * w), None), space)
    noise, signal = batch_noise.of_two(batch.half, space, 4)
    # Gradients are the means of the rows, 2 and 8.
    assert (float(noise), float(signal)) == (9.0, 16.0)


def test_noise_of_the_loss_is_that_of_two_draws():
    w = keras.Variable([2.0])
    space = parameter_space.ParameterSpace([w])
    generator = keras.random.SeedGenerator(0)

    def loss_of(rows):
        def loss():
            # Gradients: twice one, where the draw is positive, and else nothing.
            draw = keras.random.uniform((), seed=generator) > 0.5
            return tf.reduce_mean(2 * tf.cast(draw, tf.float32) * rows * w), None

        return loss

    batch = batches.Batch(tf.ones((4, 1)), loss_of, space)
    found = set()
    for step in range(20):
        batch.reseed(tf.constant([7, 1024 * step], tf.int64))
        noise, signal = batch_noise.of_two(batch.redrawn, space, 2)
        found.add((float(noise), float(signal)))
    assert found == {(0.0, 0.0), (2.0, 0.0), (0.0, 4.0)}
