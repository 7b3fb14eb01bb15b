"""The main example as a user runs it, in short form."""

import csv
import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from absl.testing import flagsaver

import keras_sfn
from helpers import timed_training
from tests import scripts

EXAMPLE = scripts.EXAMPLES / "autoencoder.py"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def read_losses(path):
    with open(path) as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_digits_with_ours_and_kerass(data_dir, tmp_path, counted_time, capsys):
    counted_time(timed_training)
    flags = ["--seconds=2", "--points=4", f"--output_dir={tmp_path}"]
    flags += [f"--data_dir={data_dir}", "--optimizer=saddle_free_newton,adam"]
    scripts.call(EXAMPLE, *flags)
    rows = read_losses(tmp_path / "losses.csv")
    by_name = {}
    for row in rows:
        by_name.setdefault(row["optimizer"], []).append(float(row["mean_squared_error"]))
    assert list(by_name) == ["saddle_free_newton", "adam"]
    starts = [losses[0] for losses in by_name.values()]
    np.testing.assert_allclose(starts, starts[0], rtol=1e-5)
    for losses in by_name.values():
        assert len(losses) == 5
        assert losses[-1] < 0.5 * losses[0]
    for name in ("loss.png", "reconstructions.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert "saddle_free_newton: training for 2 s" in capsys.readouterr().out


@pytest.mark.slow
def test_from_the_plateau_of_sgd_and_again_from_its_checkpoint(data_dir, tmp_path, counted_time):
    counted_time(timed_training)
    flags = [
        f"--data_dir={data_dir}",
        "--quick",
        "--seconds=0.5",
        "--hidden=16,4",
        "--rows=200",
        "--activation=sigmoid",
    ]
    flags += ["--initializer=sparse", "--lanczos_steps=4", "--plateau_learning_rate=0.05"]
    first = tmp_path / "first"
    start = ["--start=plateau", "--optimizer=saddle_free_newton,adam", f"--output_dir={first}"]
    scripts.call(EXAMPLE, *start, "--adam_learning_rate=1e-3,1e-2", *flags)
    by_name = {}
    for row in read_losses(first / "losses.csv"):
        by_name.setdefault(row["optimizer"], []).append(row)
    way = by_name.pop("sgd until it stalls")
    assert list(by_name) == ["saddle_free_newton", "adam 0.001", "adam 0.01"]
    plateau = min(float(row["mean_squared_error"]) for row in way)
    assert plateau < float(way[0]["mean_squared_error"])
    for rows in by_name.values():
        assert float(rows[0]["mean_squared_error"]) == pytest.approx(plateau, rel=1e-5)
        assert float(rows[0]["sum_over_pixels"]) == pytest.approx(64 * plateau, rel=1e-5)
        assert all(float(row["gradient_norm"]) > 0 for row in rows)
        assert all(np.isfinite(float(row["lowest_ritz_value"])) for row in rows)
    assert float(by_name["saddle_free_newton"][-1]["mean_squared_error"]) < plateau
    for name in ("loss.png", "curvature.png", "plateau.png", "reconstructions.png"):
        assert (first / name).read_bytes().startswith(b"\x89PNG")

    second = tmp_path / "second"
    checkpoint = f"--checkpoint={first / 'plateau.weights.h5'}"
    scripts.call(EXAMPLE, checkpoint, "--optimizer=adam", f"--output_dir={second}", *flags)
    again = read_losses(second / "losses.csv")
    assert float(again[0]["mean_squared_error"]) == pytest.approx(plateau, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_a_prepared_image_set_of_tfds(data_dir, tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 255, (40, 6, 6, channels)).astype("uint8")
    tfds.dataset_builders.store_as_tfds_dataset(
        name=f"tiny_images_{channels}",
        version="1.0.0",
        features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(6, 6, channels))}),
        split_datasets={
            split: tf.data.Dataset.from_tensor_slices({"image": part})
            for split, part in (("train", images[:30]), ("test", images[30:]))
        },
        data_dir=data_dir,
    )
    scripts.call(
        EXAMPLE,
        f"--data_dir={data_dir}",
        f"--dataset=tiny_images_{channels}",
        "--hidden=8,2",
        "--seconds=0.2",
        "--optimizer=saddle_free_newton",
        f"--output_dir={tmp_path}",
    )
    assert read_losses(tmp_path / "losses.csv")
    assert (tmp_path / "reconstructions.png").exists()


def test_optimizers_have_the_settings_of_the_flags():
    settings = {"krylov_dimension": 7, "inner_steps": 2, "sgd_learning_rate": ["0.2", "0.3"]}
    with scripts.loaded(EXAMPLE) as example, flagsaver.flagsaver(**settings):
        for name, kind in (
            ("saddle_free_newton", keras_sfn.SaddleFreeNewton),
            ("damped_newton", keras_sfn.DampedNewton),
        ):
            assert example.learning_rates(name) == [1.0]
            optimizer = example.make_optimizer(name, 1.0, 200)
            assert type(optimizer) is kind
            config = optimizer.get_config()
            assert (config["krylov_dimension"], config["inner_steps"]) == (7, 2)
            assert config["curvature_batch_size"] == 50
        assert example.learning_rates("nesterov") == [0.2, 0.3]
        momentum = example.make_optimizer("nesterov", 0.2, 200)
        assert (momentum.nesterov, momentum.momentum) == (True, 0.99)
        assert float(momentum.learning_rate) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset=mnist"], r"--dataset=mnist is not prepared in .* Run again with --download"),
        (["--dataset=no_such_set"], r"--dataset=no_such_set is not in TensorFlow Datasets"),
        (["--optimizer=newton"], r"--optimizer=newton is neither ours nor Keras's"),
        (["--adam_learning_rate=1e-3,x"], r"--adam_learning_rate=1e-3,x must be positive numbers"),
        (["--output_dir=README.md/x"], r"--output_dir=README.md/x cannot be made: Not a directory"),
        (["--checkpoint=none.weights.h5"], r"--checkpoint=none.weights.h5 cannot be read into"),
        (["extra"], r"Unknown arguments: \['extra'\]"),
    ],
)
def test_what_cannot_be_run_says_so_in_one_line(data_dir, flags, message):
    assert re.search(message, scripts.refusal(EXAMPLE, f"--data_dir={data_dir}", *flags))
