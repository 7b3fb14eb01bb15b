"""A run that is saved and taken up again goes on as if it had not stopped."""

import json
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("double_precision")]

SETTINGS = {
    "search": {"damping": "search"},
    "adaptive": {"damping": "adaptive"},
    "ema": {"damping": "search", "use_ema": True, "ema_momentum": 0.9},
    "schedule": {
        "damping": 0.1,
        "weight_decay": 0.01,
        "learning_rate": keras.optimizers.schedules.ExponentialDecay(1.0, 2, 0.9),
    },
}


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 6)).astype("float32")
    return x, np.tanh(x @ rng.normal(size=(6, 2))).astype("float32")


def compiled(settings="search", *, seed=1, jit_compile=False):
    """A model with state of every kind: statistics, dropout seeds, weights."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(2),
        ]
    )
    optimizer = keras_sfn.SaddleFreeNewton(
        krylov_dimension=4, jit_compile=jit_compile, **SETTINGS[settings]
    )
    model.compile(optimizer, "mse")
    return model


def fit(model, epochs, **options):
    x, y = data()
    return model.fit(
        x, y, batch_size=16, epochs=epochs, verbose=0, shuffle=False, **options
    ).history["loss"]


@pytest.fixture(scope="module")
def uninterrupted(double_precision):
    """Losses of four epochs and the weights after them, once for each setting."""
    done = {}

    def run(settings):
        if settings not in done:
            model = compiled(settings)
            done[settings] = fit(model, 4), model.get_weights()
        return done[settings]

    return run


@pytest.fixture(scope="module")
def halfway(double_precision):
    """Models after two epochs, once for each setting, to be saved and not to be changed."""
    done = {}

    def run(settings="search"):
        if settings not in done:
            done[settings] = compiled(settings)
            fit(done[settings], 2)
        return done[settings]

    return run


def check(model, losses, uninterrupted, settings="search"):
    expected_losses, expected_weights = uninterrupted(settings)
    np.testing.assert_allclose(losses, expected_losses[2:], rtol=1e-6)
    for got, expected in zip(model.get_weights(), expected_weights, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", ["search", "adaptive", "schedule"])
def test_save_and_load_model(settings, halfway, uninterrupted, tmp_path):
    model = halfway(settings)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert type(restored.optimizer) is keras_sfn.SaddleFreeNewton
    assert restored.optimizer.get_config() == model.optimizer.get_config()
    check(restored, fit(restored, 2), uninterrupted, settings)


def test_save_and_load_under_xla(tmp_path):
    """Its random numbers differ from the graph's: a resumed run compiles the same way."""
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    losses = fit(compiled(jit_compile=True), 4, callbacks=[checkpoint])
    restored = keras.models.load_model(tmp_path / "2.keras")
    np.testing.assert_allclose(fit(restored, 2), losses[2:], rtol=1e-6)


def test_weights_and_optimizer_variables(halfway, uninterrupted):
    model = halfway()
    weights, state = model.get_weights(), [v.numpy() for v in model.optimizer.variables]
    other = compiled(seed=2)
    other.optimizer.build(other.trainable_variables)
    other.set_weights(weights)
    for variable, value in zip(other.optimizer.variables, state, strict=True):
        variable.assign(value)
    check(other, fit(other, 2), uninterrupted)


def test_save_weights_has_the_optimizer_too(halfway, uninterrupted, tmp_path):
    model = halfway()
    model.save_weights(tmp_path / "all.weights.h5")
    other = compiled(seed=2)
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "all.weights.h5")
    check(other, fit(other, 2), uninterrupted)


# With `use_ema`, the end of `fit` puts the averages in place of the weights, as Keras documents:
# only what is saved before that end can be taken up again.
@pytest.mark.parametrize(("save_weights_only", "settings"), [(False, "search"), (True, "ema")])
def test_model_checkpoint(save_weights_only, settings, uninterrupted, tmp_path):
    name = "{epoch}.weights.h5" if save_weights_only else "{epoch}.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / name, save_weights_only=save_weights_only
    )
    fit(compiled(settings), 4, callbacks=[checkpoint])
    path = tmp_path / name.format(epoch=2)
    if save_weights_only:
        model = compiled(settings, seed=2)
        model.optimizer.build(model.trainable_variables)
        model.load_weights(path)
    else:
        model = keras.models.load_model(path)
    check(model, fit(model, 4, initial_epoch=2), uninterrupted, settings)


def test_backup_and_restore(uninterrupted, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    backup = lambda: keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        fit(compiled(), 4, callbacks=[backup(), Stop()])
    model = compiled(seed=2)
    check(model, fit(model, 4, callbacks=[backup()]), uninterrupted)


@pytest.mark.parametrize("built", [True, False])
def test_tensorflow_checkpoint(built, halfway, uninterrupted, tmp_path):
    model = halfway()
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(tmp_path / "ckpt")
    other = compiled(seed=2)
    if built:
        other.optimizer.build(other.trainable_variables)
    status = tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(path)
    if built:
        status.assert_existing_objects_matched()
    check(other, fit(other, 2), uninterrupted)


def test_every_part_of_the_state_is_an_optimizer_variable(halfway):
    model = halfway("adaptive")
    names = {v.name.rsplit("/")[-1] for v in model.optimizer.variables}
    assert names >= {
        "iteration",
        "learning_rate",
        "damping",
        "rejected_steps",
        "failures",
        "dropout_seed",
        "previous_step",
    }


def test_a_learning_rate_set_by_hand_is_saved(tmp_path):
    model = compiled()
    fit(model, 1)
    model.optimizer.learning_rate = 0.25
    model.save(tmp_path / "model.keras")
    assert float(keras.models.load_model(tmp_path / "model.keras").optimizer.learning_rate) == 0.25


def test_saved_models_hold_plain_json(halfway, tmp_path):
    import zipfile

    model = halfway("schedule")
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))
    optimizer = config["compile_config"]["optimizer"]
    assert optimizer["registered_name"] == "keras_sfn>SaddleFreeNewton"
    assert "__lambda__" not in json.dumps(optimizer)
    restored = keras.optimizers.deserialize(optimizer)
    assert restored.get_config() == model.optimizer.get_config()


KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
import keras, numpy as np
import test_resume

keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")

class Kill(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (2, 1):
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

callbacks = [
    keras.callbacks.ModelCheckpoint({directory!r} + "/{{epoch}}.keras"),
    keras.callbacks.BackupAndRestore({directory!r} + "/backup"),
    Kill(),
]
test_resume.fit(test_resume.compiled(), 4, callbacks=callbacks)
"""


def test_a_process_killed_in_mid_epoch_goes_on_from_its_last_checkpoint(uninterrupted, tmp_path):
    path = [os.path.dirname(__file__), *sys.path]
    program = KILLED.format(path=path, directory=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(p.name for p in tmp_path.glob("*.keras")) == ["1.keras", "2.keras"]
    by_backup = compiled(seed=2)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    check(by_backup, fit(by_backup, 4, callbacks=[backup]), uninterrupted)
    by_checkpoint = keras.models.load_model(tmp_path / "2.keras")
    check(by_checkpoint, fit(by_checkpoint, 4, initial_epoch=2), uninterrupted)
