import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

import keras_sfn

SCALARS = ["spectrum/smallest", "spectrum/largest", "spectrum/negative"]


def data(rows=32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype("float32")
    return x, np.tanh(x @ rng.normal(size=(4, 2))).astype("float32")


def compiled():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, activation="tanh"), keras.layers.Dense(2)]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def read(folder):
    return event_accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def values(events, tag):
    return {e.step: tf.make_ndarray(e.tensor_proto) for e in events.Tensors(tag)}


def test_spectra_before_training_and_every_so_many_epochs(tmp_path):
    model, (x, y) = compiled(), data()
    rows = x[:16], y[:16]
    logger = keras_sfn.SpectrumLogger(tmp_path, *rows, epoch_freq=2, num_steps=20, num_probes=2)
    before = model.get_weights()
    model.fit(x, y, epochs=4, batch_size=16, verbose=0, callbacks=[logger])
    events = read(tmp_path)
    after = model.get_weights()
    for step, weights in ((0, before), (4, after)):
        model.set_weights(weights)
        hessian = keras_sfn.HessianOperator.from_model(model, *rows)
        spectrum = keras_sfn.spectral_density(hessian, num_steps=20, num_probes=2)
        found = {tag: values(events, tag) for tag in SCALARS}
        assert [sorted(steps) for steps in found.values()] == [[0, 2, 4]] * 3
        lowest, highest = spectrum.nodes.min(), spectrum.nodes.max()
        assert found["spectrum/smallest"][step] == pytest.approx(lowest, abs=1e-5)
        assert found["spectrum/largest"][step] == pytest.approx(highest, rel=1e-4)
        assert 0 < found["spectrum/negative"][step] < 0.6
        buckets = values(events, "spectrum/eigenvalues")[step]
        assert buckets[:, 2].sum() == pytest.approx(model.count_params())
        assert buckets[0, 0] == pytest.approx(lowest, abs=1e-5)
        assert buckets[-1, 1] == pytest.approx(highest, rel=1e-4)
    metadata = events.SummaryMetadata("spectrum/eigenvalues")
    assert metadata.plugin_data.plugin_name == "histograms"


def test_a_run_that_is_taken_up_again_goes_on_with_its_numbers(tmp_path):
    model, (x, y) = compiled(), data()
    logger = keras_sfn.SpectrumLogger(tmp_path, x, y, num_steps=3)
    model.fit(x, y, initial_epoch=5, epochs=6, verbose=0, callbacks=[logger])
    assert sorted(values(read(tmp_path), "spectrum/largest")) == [5, 6]


def test_nothing_is_written_of_a_training_that_has_diverged(tmp_path):
    model, (x, y) = compiled(), data()
    logger = keras_sfn.SpectrumLogger(tmp_path, x, y, num_steps=3)
    diverge = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: model.layers[0].kernel.assign(
            np.full((4, 3), np.nan, "float32")
        )
    )
    model.fit(x, y, verbose=0, callbacks=[logger, diverge])
    assert sorted(values(read(tmp_path), "spectrum/largest")) == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch_freq": 0}, "`epoch_freq` must be an integer >= 1"),
        ({"num_steps": 0}, "`num_steps` must be an integer >= 1"),
        ({"num_probes": 0}, "`num_probes` must be an integer >= 1"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"training": 1}, "`training` must be True or False"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        keras_sfn.SpectrumLogger(tmp_path, *data(), **options)


def test_rows_that_do_not_fit_are_refused_when_training_begins(tmp_path):
    model, (x, y) = compiled(), data()
    for logger, message in (
        (keras_sfn.SpectrumLogger(tmp_path, x, y[:3]), "same number of rows"),
        (keras_sfn.SpectrumLogger(tmp_path, x * np.nan, y), "The loss must be finite"),
        (keras_sfn.SpectrumLogger(tmp_path, x, y, num_steps=99), r"at most n, .*\(23\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, verbose=0, callbacks=[logger])


def test_without_tensorboard_a_logger_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="`log_dir` needs TensorBoard"):
        keras_sfn.SpectrumLogger(tmp_path, *data())
