"""No training creeps where a plain Krylov step would go far."""

import keras
import numpy as np
import pytest

import keras_sfn

# Steps in a row that each lower the loss by less than this part of it are creeping.
CREEPING, IN_A_ROW = 1e-4, 200
FAR = 1e-2


def task(seed):
    """Returns a network of random widths and activation, and random data for it, all in a batch."""
    rng = np.random.default_rng(seed)
    activation = str(rng.choice(["tanh", "relu", "softplus", "sigmoid", "gelu"]))
    loss = str(rng.choice(["mse", "mae", "huber", "log_cosh"]))
    widths = rng.integers(3, 17, rng.integers(1, 4))
    inputs, rows = int(rng.integers(1, 6)), int(rng.integers(50, 400))
    x = rng.normal(size=(rows, inputs)) * 10 ** rng.uniform(-1, 1, inputs)
    y = np.sin(x @ rng.normal(size=(inputs, 2)) * rng.uniform(0.5, 2)) * 10 ** rng.uniform(-2, 2)

    def build():
        keras.utils.set_random_seed(seed)
        hidden = [keras.layers.Dense(int(width), activation) for width in widths]
        return keras.Sequential([keras.Input((inputs,)), *hidden, keras.layers.Dense(2)])

    return build, x.astype("float32"), y.astype("float32"), loss


def longest_creep(losses):
    """Returns how many steps in a row creep at most, and the last of them."""
    longest, last, count = 0, 0, 0
    for index in range(1, len(losses)):
        falls = losses[index - 1] - losses[index]
        # A step that was rejected is none that creeps.
        if falls >= CREEPING * losses[index - 1]:
            count = 0
        elif falls > 0:
            count += 1
        if count > longest:
            longest, last = count, index
    return longest, last


def test_what_creeps():
    assert longest_creep([1.0, 0.5, 0.5 - 1e-6, 0.5 - 2e-6, 0.2]) == (2, 3)
    assert longest_creep([1.0, 1.0, 1.0]) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_no_training_creeps_where_a_krylov_step_goes_far(seed):
    build, x, y, loss = task(seed)
    model = build()
    model.compile("saddle_free_newton", loss, jit_compile=False)
    points = []
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: points.append(model.get_weights())
    )
    options = {"batch_size": len(x), "shuffle": False, "verbose": 0}
    losses = model.fit(x, y, epochs=450, callbacks=[record], **options).history["loss"]
    longest, last = longest_creep(losses)
    if longest < IN_A_ROW:
        return
    plain = build()
    plain.set_weights(points[last])
    plain.compile(keras_sfn.SaddleFreeNewton(krylov_dimension=10, jit_compile=False), loss)
    # The first step of a damping has to find it.
    first, *others = plain.fit(x, y, epochs=4, **options).history["loss"]
    assert min(others) > (1 - FAR) * first
