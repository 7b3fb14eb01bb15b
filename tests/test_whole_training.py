"""Whole training runs, on real data and on saddles."""

import keras
import numpy as np
import pytest

import keras_sfn


def losses_of(model, optimizer, x, y, steps):
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    history = model.fit(x, y, batch_size=len(x), epochs=steps, verbose=0, shuffle=False).history
    return [*history["loss"], model.evaluate(x, y, batch_size=len(x), verbose=0)]


def test_digits_in_twelve_steps(make_classifier, digits):
    x, y = digits
    ours = losses_of(make_classifier(), "saddle_free_newton", x, y, 12)
    adam = losses_of(make_classifier(), keras.optimizers.Adam(1e-2), x, y, 12)
    assert ours[0] == pytest.approx(adam[0], rel=1e-5)
    assert ours[-1] < 0.5 * adam[-1]
    assert ours[-1] < 0.05
    assert (np.diff(ours) <= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("damping", ["search", "adaptive", 1e-2])
def test_two_layers_leave_the_saddle_at_zero(damping):
    """At zero weights the gradient of a two-layer linear net vanishes and H is indefinite."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    y = x @ rng.normal(size=(4, 1)).astype("float32")

    def train(optimizer):
        model = keras.Sequential(
            [keras.Input((4,))]
            + [
                keras.layers.Dense(units, use_bias=False, kernel_initializer="zeros")
                for units in (3, 1)
            ]
        )
        model.compile(optimizer, "mse")
        return model.fit(x, y, batch_size=64, epochs=40, verbose=0).history["loss"]

    gradient_descent = train(keras.optimizers.SGD(0.1))
    assert gradient_descent[-1] == gradient_descent[0]
    ours = train(keras_sfn.SaddleFreeNewton(damping=damping, jit_compile=False))
    assert ours[-1] < 1e-4 * ours[0]


@pytest.mark.slow
@pytest.mark.parametrize("damping", ["search", "adaptive"])
def test_minibatches_of_digits_generalise(make_classifier, digits, damping):
    x, y = digits
    model = make_classifier()
    model.compile(
        keras_sfn.SaddleFreeNewton(damping=damping),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(x[:1400], y[:1400], batch_size=350, epochs=12, verbose=0)
    accuracy = model.evaluate(x[1400:], y[1400:], verbose=0, return_dict=True)["accuracy"]
    assert accuracy > 0.88
