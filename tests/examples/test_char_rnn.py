"""The recurrent net as a user runs it, in short form."""

import csv
import re

import keras
import numpy as np
import pytest
from absl.testing import flagsaver

import keras_sfn
from helpers import timed_training
from tests import scripts

EXAMPLE = scripts.EXAMPLES / "char_rnn.py"
TEXT = "the cat sat on the mat while a dog barked at <unk> people in the road\n"


@pytest.fixture
def char_rnn():
    with scripts.loaded(EXAMPLE) as module:
        yield module


@pytest.fixture(scope="module")
def ptb_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ptb")
    for split in ("train", "valid", "test"):
        (folder / f"ptb.{split}.txt").write_text(TEXT * 20)
    return folder


def read(path):
    with open(path) as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_quick_form_on_a_folder_of_text(ptb_dir, tmp_path, counted_time, capsys):
    counted_time(timed_training)
    names = ["saddle_free_newton", "sgd"]
    scripts.call(
        EXAMPLE,
        "--quick",
        "--dataset=penn_treebank",
        f"--ptb_dir={ptb_dir}",
        f"--optimizer={','.join(names)}",
        f"--output_dir={tmp_path}",
    )
    for name in ("loss.png", "spectrum.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    summary = {row["stage"]: row for row in read(tmp_path / "summary.csv")}
    assert list(summary) == ["sgd until it stalls", *names]
    losses = {}
    for row in read(tmp_path / "losses.csv"):
        losses.setdefault(row["stage"], []).append(row)
    plateau = float(summary["sgd until it stalls"]["training_loss"])
    best = min(float(row["training_loss"]) for row in losses["sgd until it stalls"])
    assert plateau == pytest.approx(best, rel=1e-3)
    for name in names:
        assert len(losses[name]) == 5
        assert float(losses[name][0]["training_loss"]) == pytest.approx(plateau, rel=1e-3)
        last = losses[name][-1]
        assert float(last["training_loss"]) == pytest.approx(
            float(summary[name]["training_loss"]), rel=1e-3
        )
        assert float(last["gradients"]) > float(losses[name][1]["gradients"]) > 0
    assert float(summary["saddle_free_newton"]["training_loss"]) < plateau
    ritz = {}
    for row in read(tmp_path / "spectrum.csv"):
        ritz.setdefault(row["stage"], []).append((float(row["ritz_value"]), float(row["weight"])))
    for stage, row in summary.items():
        values, weights = np.array(ritz[stage]).T
        assert len(values) == 12
        assert weights.sum() == pytest.approx(1, rel=1e-4)
        assert values[0] == pytest.approx(float(row["least_ritz_value"]), rel=1e-3)
        assert (values < -0.2).sum() == int(row["negative_ritz_values"])
    printed = capsys.readouterr().out
    assert "saddle_free_newton: training for 0.5 s" in printed
    assert re.search(r"sgd (stalled|stopped by --sgd_epochs)", printed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer=newton"], r"--optimizer=newton is unknown. Choose from saddle_free_newton,"),
        (["--dataset=penn_treebank"], r"needs --ptb_dir, the folder with ptb.train.txt"),
        (["--dataset=tiny_shakespeare"], r"is not prepared in .* Run again with --download"),
        (["extra"], r"Unknown arguments: \['extra'\]"),
    ],
)
def test_what_cannot_be_run_says_so_in_one_line(tmp_path, arguments, message):
    assert re.search(message, scripts.refusal(EXAMPLE, f"--data_dir={tmp_path}", *arguments))


def test_a_text_that_is_too_short(char_rnn, tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"ptb.{split}.txt").write_text("short")
    with (
        flagsaver.flagsaver(dataset="penn_treebank", ptb_dir=str(tmp_path)),
        pytest.raises(SystemExit, match=r"has 5 characters .* Choose shorter sequences"),
    ):
        char_rnn.main([""])


def test_results_that_cannot_be_written_stop_before_training(char_rnn, tmp_path):
    (tmp_path / "file").write_text("")
    with (
        flagsaver.flagsaver(output_dir=str(tmp_path / "file" / "results")),
        pytest.raises(SystemExit, match=r"cannot be made: Not a directory. Choose another"),
    ):
        char_rnn.main([""])


def test_sgd_that_diverges_names_its_learning_rate(char_rnn, ptb_dir, tmp_path):
    settings = {
        "quick": True,
        "dataset": "penn_treebank",
        "ptb_dir": str(ptb_dir),
        "sgd_learning_rate": 1e38,
        "clip_norm": 1e30,
        "output_dir": str(tmp_path),
    }
    with (
        flagsaver.flagsaver(**settings),
        pytest.raises(SystemExit, match="diverged with --sgd_learning_rate=1e"),
    ):
        char_rnn.main([""])


@pytest.mark.slow
def test_what_diverges_after_the_plateau_has_no_spectrum(char_rnn, ptb_dir, tmp_path):
    settings = {
        "quick": True,
        "dataset": "penn_treebank",
        "ptb_dir": str(ptb_dir),
        "optimizer": ["adam"],
        "adam_learning_rate": 1e38,
        "output_dir": str(tmp_path),
    }
    with flagsaver.flagsaver(**settings):
        char_rnn.main([""])
    plateau, adam = read(tmp_path / "summary.csv")
    assert float(plateau["least_ritz_value"]) < float(plateau["largest_ritz_value"])
    assert adam["training_loss"] == adam["least_ritz_value"] == "nan"
    assert {row["stage"] for row in read(tmp_path / "spectrum.csv")} == {"sgd until it stalls"}


def test_recurrent_weights_are_orthogonal(char_rnn):
    model = char_rnn.build_model(5, 12, 7)
    kernel = model.layers[-2].cell.recurrent_kernel.numpy()
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(12), atol=1e-5)
    assert model(np.zeros((2, 5), "int32")).shape == (2, 5, 7)


def test_optimizers_have_the_settings_of_the_flags(char_rnn):
    with flagsaver.flagsaver(krylov_dimension=7, curvature_batch_size=11, sgd_momentum=0.5):
        for name, kind in (
            ("saddle_free_newton", keras_sfn.SaddleFreeNewton),
            ("damped_newton", keras_sfn.DampedNewton),
        ):
            optimizer = char_rnn.make_optimizer(name)
            assert isinstance(optimizer, kind)
            config = optimizer.get_config()
            assert (config["krylov_dimension"], config["curvature_batch_size"]) == (7, 11)
        assert char_rnn.make_optimizer("sgd").momentum == 0.5
        assert isinstance(char_rnn.make_optimizer("adam"), keras.optimizers.Adam)


def test_the_cost_of_a_step_in_gradients(char_rnn):
    assert char_rnn.gradients_a_step("sgd", 100, 1000) == 0.1
    with flagsaver.flagsaver(krylov_dimension=4):
        assert char_rnn.gradients_a_step("damped_newton", 1000, 1000) == 1 + 2 * 5 + 1.5
        with flagsaver.flagsaver(curvature_batch_size=250):
            cost = char_rnn.gradients_a_step("saddle_free_newton", 500, 1000)
            assert cost == 0.5 + 2 * 5 * 0.25 + 0.75
