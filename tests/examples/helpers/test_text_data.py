"""Texts come in as they should, and what cannot be read is said in one line."""

import socket
import time

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from helpers import text_data

WORDS = {"train": " the cat sat \n <unk> dogs \n", "valid": " a dog \n", "test": " a cat \n"}


def write(folder, contents, form="ptb.{}.txt"):
    for split, content in contents.items():
        (folder / form.format(split)).write_text(content)
    return str(folder)


def decoded(text, part):
    return "".join(text.alphabet[i] for i in part)


def characters(words):
    """The form by characters of a text by words."""
    lines = (" ".join(line.strip().replace(" ", "_")) for line in words.splitlines())
    return "\n".join(lines) + "\n"


@pytest.fixture
def store(tmp_path):
    """Stores a set of TFDS with the given rows, splits and feature."""

    def make(name, splits, feature="text"):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict({feature: tfds.features.Text()}),
            split_datasets={
                split: tf.data.Dataset.from_tensor_slices({feature: rows})
                for split, rows in splits.items()
            },
            data_dir=tmp_path,
        )
        return str(tmp_path)

    return make


def test_the_folder_by_words(tmp_path):
    text = text_data.load_text("penn_treebank", ptb_dir=write(tmp_path, WORDS))
    assert decoded(text, text.train) == "the cat sat\n<unk> dogs"
    assert decoded(text, text.valid) == "a dog"
    assert text.alphabet == "".join(sorted(set("the cat sat\n<unk> dogs" + "a dog")))
    assert text.train.dtype == np.int32


def test_the_folder_by_characters_is_the_same_text(tmp_path):
    (tmp_path / "words").mkdir()
    words = write(tmp_path / "words", WORDS)
    spelled = {split: characters(content) for split, content in WORDS.items()}
    assert spelled["valid"] == "a _ d o g\n"
    letters = write(tmp_path, spelled, "ptb.char.{}.txt")
    one = text_data.load_text("penn_treebank", ptb_dir=words)
    other = text_data.load_text("penn_treebank", ptb_dir=letters)
    assert one.alphabet == other.alphabet
    np.testing.assert_array_equal(one.train, other.train)
    np.testing.assert_array_equal(one.valid, other.valid)


@pytest.mark.slow
def test_a_prepared_set_of_tfds(store):
    data_dir = store("tiny_text", {"train": ["héllo you"], "validation": ["you"]})
    text = text_data.load_text("tiny_text", data_dir=data_dir)
    assert decoded(text, text.train) == "héllo you"
    assert decoded(text, text.valid) == "you"


def test_sequences_predict_each_transition_once():
    rows = text_data.sequences(np.arange(12), 3)
    np.testing.assert_array_equal(rows, [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]])
    assert text_data.sequences(np.arange(12), 3, most=2).shape == (2, 4)
    assert text_data.sequences(np.arange(10), 3).shape == (3, 4)
    assert text_data.sequences(np.arange(3), 3).shape == (0, 4)
    assert text_data.sequences(np.arange(0), 3).shape == (0, 4)


def refusal(*arguments, **options):
    with pytest.raises(SystemExit) as caught:
        text_data.load_text(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_folder_is_named():
    message = refusal("penn_treebank")
    assert "needs --ptb_dir" in message
    assert "ptb.train.txt, ptb.valid.txt and ptb.test.txt" in message


def test_the_folder_is_missing(tmp_path):
    message = refusal("penn_treebank", ptb_dir=str(tmp_path / "no"))
    assert f"--ptb_dir={tmp_path / 'no'} is not a folder" in message
    assert "ptb.train.txt" in message


@pytest.mark.parametrize("form", ["ptb.{}.txt", "ptb.char.{}.txt"])
def test_a_file_is_missing(tmp_path, form):
    folder = write(tmp_path, {"train": "a", "test": "a"}, form)
    message = refusal("penn_treebank", ptb_dir=folder)
    assert message.startswith(f"{form.format('valid')} missing in --ptb_dir={folder}")


def test_a_file_is_empty(tmp_path):
    folder = write(tmp_path, WORDS | {"valid": " \n"})
    assert "ptb.valid.txt is empty" in refusal("penn_treebank", ptb_dir=folder)


def test_a_file_is_no_text(tmp_path):
    folder = write(tmp_path, WORDS)
    (tmp_path / "ptb.test.txt").write_bytes(b"\xff\xfe\x00")
    assert "ptb.test.txt is not UTF-8 text" in refusal("penn_treebank", ptb_dir=folder)


@pytest.mark.slow
def test_an_unknown_set(tmp_path):
    message = refusal("no_such_set", data_dir=str(tmp_path))
    assert "--dataset=no_such_set is not in TensorFlow Datasets" in message
    assert "tiny_shakespeare" in message


@pytest.mark.slow
def test_a_set_that_is_not_prepared(tmp_path):
    message = refusal("tiny_shakespeare", data_dir=str(tmp_path))
    assert "--dataset=tiny_shakespeare is not prepared in" in message
    assert "--download" in message


@pytest.mark.slow
def test_no_network_takes_seconds(tmp_path, monkeypatch):
    def no_network(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    message = refusal("tiny_shakespeare", data_dir=str(tmp_path), download=True)
    assert "could not be fetched" in message
    assert "Check the network" in message
    assert sum(waited) < 20


@pytest.mark.slow
def test_a_set_without_text(store):
    data_dir = store("tiny_other", {"train": ["a"], "validation": ["b"]}, feature="words")
    assert "no feature 'text' (it has words)" in refusal("tiny_other", data_dir=data_dir)


@pytest.mark.slow
def test_a_set_without_validation(store):
    data_dir = store("tiny_train", {"train": ["a"]})
    message = refusal("tiny_train", data_dir=data_dir)
    assert "no split 'validation' (it has train)" in message
