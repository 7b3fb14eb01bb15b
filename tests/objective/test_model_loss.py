import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.objective import model_loss


def make_model(build=True, compiled=True):
    model = keras.Sequential([keras.layers.Dense(1), keras.layers.Dropout(0.5)])
    if build:
        model.build((None, 3))
    if compiled:
        model.compile("sgd", "mse")
    return model


X, Y = np.ones((4, 3), "float32"), np.zeros((4, 1), "float32")


def test_loss_is_that_of_evaluate():
    model = make_model()
    loss, predictions = model_loss.batch_loss(model, X, Y, None, training=False)()
    assert float(loss) == pytest.approx(model.evaluate(X, Y, verbose=0))
    np.testing.assert_allclose(predictions, model.predict(X, verbose=0))


def test_training_mode_drops_units():
    loss_fn = model_loss.batch_loss(make_model(), X, Y, None, training=True)
    assert len({float(loss_fn()[0]) for _ in range(8)}) > 1


@pytest.mark.parametrize(
    ("model", "batch", "message"),
    [
        (lambda: make_model(compiled=False), (X, Y, None), "`model` must be compiled"),
        (lambda: make_model(build=False), (X, Y, None), "`model` must be built"),
        (make_model, (X, Y[:3], None), r"same number of rows.*x: \[4\], y: \[3\]"),
        (make_model, (X, Y, np.ones(5)), r"same number of rows.*sample_weight: \[5\]"),
        (make_model, (tf.data.Dataset.from_tensors((X, Y)), None, None), "`x` must be one batch"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(model, batch, message):
    with pytest.raises(ValueError, match=message):
        model_loss.check_batch(model(), *batch)
