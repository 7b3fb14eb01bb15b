import csv
import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

import keras_sfn
from keras_sfn import callbacks as callbacks_lib

FIGURES = callbacks_lib.FIGURES


def data(rows=32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype("float32")
    return x, np.tanh(x @ rng.normal(size=(4, 2))).astype("float32")


def compiled(optimizer=None, **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, activation="tanh"), keras.layers.Dense(2)]
    )
    # Without XLA a step compiles in a third of the time.
    ours = keras_sfn.SaddleFreeNewton(krylov_dimension=4, jit_compile=False)
    model.compile(optimizer or ours, "mse", **options)
    return model


class Seen(keras.callbacks.Callback):
    """Records what the callbacks after the logger see, and `last_step` itself."""

    def __init__(self):
        super().__init__()
        self.batches, self.steps = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append((batch, dict(logs)))
        self.steps.append(self.model.optimizer.last_step)


@pytest.mark.parametrize(
    "options",
    [{}, {"steps_per_execution": 2}, {"run_eagerly": True}, {"jit_compile": True}],
    ids=str,
)
def test_figures_reach_history_csv_and_batches(options, tmp_path):
    model, (x, y) = compiled(**options), data()
    seen, path = Seen(), tmp_path / "steps.csv"
    history = model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        verbose=0,
        callbacks=[keras_sfn.CurvatureLogger(), seen, keras.callbacks.CSVLogger(path)],
    ).history
    per_epoch = 2 if "steps_per_execution" in options else 4
    assert len(seen.batches) == 2 * per_epoch
    for (_, logs), last in zip(seen.batches, seen.steps, strict=True):
        for name in FIGURES:
            assert logs[name] == getattr(last, name), name
    rows = list(csv.DictReader(path.open()))
    for epoch in range(2):
        last = seen.steps[(epoch + 1) * per_epoch - 1]
        for name in FIGURES:
            assert history[name][epoch] == getattr(last, name), name
            assert float(rows[epoch][name]) == pytest.approx(getattr(last, name)), name


def test_the_progress_bar_shows_the_figures(capsys):
    model, (x, y) = compiled(), data()
    model.fit(x, y, batch_size=8, epochs=1, verbose=2, callbacks=[keras_sfn.CurvatureLogger()])
    shown = capsys.readouterr().out
    for name in FIGURES:
        assert f"{name}: " in shown


def test_logs_are_updated_every_so_many_batches():
    model, (x, y) = compiled(), data()
    seen = Seen()
    logger = keras_sfn.CurvatureLogger(update_freq=3)
    history = model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[logger, seen]).history
    assert [batch for batch, logs in seen.batches if "damping" in logs] == [0, 3, 6] * 2
    assert history["damping"] == [seen.steps[7].damping, seen.steps[15].damping]


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_tensorboard_gets_scalars_and_histograms(tmp_path, steps_per_execution):
    model, (x, y) = compiled(steps_per_execution=steps_per_execution), data()
    seen = Seen()
    logger = keras_sfn.CurvatureLogger(tmp_path, write_freq=3)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[logger, seen])
    events = event_accumulator.EventAccumulator(
        str(tmp_path), size_guidance={"tensors": 0}
    ).Reload()
    # Batches 0, 3, 6 of eight; of two-batch executions, whose last batches are 1, 3, 5 and 7, the
    # first and each that passes a multiple of three.
    ends = [0, 3, 6] if steps_per_execution == 1 else [1, 3, 7]
    steps = [epoch * 8 + end + 1 for epoch in range(2) for end in ends]
    taken = {(e // 8) * 8 + b + 1: last for e, (b, _), last in _numbered(seen)}
    for name in FIGURES:
        scalars = events.Tensors(f"curvature/{name}")
        assert [event.step for event in scalars] == steps
        for event in scalars:
            assert tf.make_ndarray(event.tensor_proto) == pytest.approx(
                getattr(taken[event.step], name), rel=1e-6
            )
    histograms = events.Tensors("curvature/ritz_values")
    assert [event.step for event in histograms] == steps
    for event in histograms:
        # Rows of left edge, right edge, count.
        buckets, expected = tf.make_ndarray(event.tensor_proto), taken[event.step]
        assert buckets[:, 2].sum() == len(expected.ritz_values)
        assert buckets[0, 0] == pytest.approx(expected.ritz_min)
        assert buckets[-1, 1] == pytest.approx(expected.ritz_max)


def _numbered(seen):
    """Yields (eight times the epoch, (batch, logs), last step)."""
    epoch, before = 0, -1
    for (batch, logs), last in zip(seen.batches, seen.steps, strict=True):
        epoch += batch <= before
        before = batch
        yield 8 * epoch, (batch, logs), last


def test_a_step_that_is_not_finite_is_shown_as_such(tmp_path):
    model, (x, y) = compiled(), data()
    x[3] = np.nan
    with pytest.warns(RuntimeWarning, match="loss not finite"):
        history = model.fit(
            x, y, verbose=0, batch_size=32, callbacks=[keras_sfn.CurvatureLogger(tmp_path)]
        ).history
    assert np.isnan(history["ritz_min"][0])
    assert history["rejected_steps"] == [1]
    assert history["step_norm"] == [0]


def test_loggers_after_the_figures_alone_see_them():
    """As with Keras's own `LearningRateScheduler`; what the docstring tells."""
    model, (x, y) = compiled(), data()
    before, after = Seen(), Seen()
    model.fit(x, y, verbose=0, callbacks=[before, keras_sfn.CurvatureLogger(), after])
    assert "damping" not in before.batches[0][1]
    assert "damping" in after.batches[0][1]


def test_a_logger_can_be_used_again(tmp_path):
    model, (x, y) = compiled(), data()
    logger = keras_sfn.CurvatureLogger(tmp_path)
    for _ in range(2):
        assert "damping" in model.fit(x, y, verbose=0, callbacks=[logger]).history
    assert len(list(tmp_path.iterdir())) == 2


def test_other_optimizers_are_refused():
    model, (x, y) = compiled(keras.optimizers.Adam()), data()
    with pytest.raises(ValueError, match=r"`CurvatureLogger` reads .* optimizer Adam"):
        model.fit(x, y, verbose=0, callbacks=[keras_sfn.CurvatureLogger()])


@pytest.mark.parametrize("name", ["update_freq", "write_freq"])
def test_bad_frequencies_are_named(name):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer >= 1"):
        keras_sfn.CurvatureLogger(**{name: 0})


def test_without_tensorboard_a_directory_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="`log_dir` needs TensorBoard"):
        keras_sfn.CurvatureLogger("logs")
    keras_sfn.CurvatureLogger()
