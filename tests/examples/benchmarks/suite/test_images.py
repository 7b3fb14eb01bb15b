"""Tests for examples/benchmarks/suite/images.py and texts.py."""

import numpy as np
import pytest

from benchmarks.suite import entry as entry_lib
from benchmarks.suite import images, texts


def test_digits_are_moved_and_their_labels_stay(digits):
    moved, labels = images.labelled(entry_lib.Form(), 50)
    assert moved.shape == (50, 12, 12, 1)
    assert moved.dtype == np.float32
    originals, classes = digits
    for image, label in zip(moved, labels, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(image[..., 0], (8, 8)).reshape(-1, 1, 64)
        # The nearest original is one with this label, up to the noise.
        distances = np.sqrt(((windows - originals) ** 2).sum(axis=-1)).min(axis=0)
        assert classes[distances.argmin()] == label
        assert distances.min() < 1.5


def test_other_sets_come_from_tfds_without_a_download():
    with pytest.raises(SystemExit, match="Run again with"):
        images.labelled(entry_lib.Form(images="fashion_mnist", data_dir="nowhere"), 5)


def test_letters_are_those_of_the_seed():
    letters = texts.random_letters(200, 30, seed=4)
    np.testing.assert_array_equal(letters, texts.random_letters(200, 30, seed=4))
    assert set(np.unique(letters)) == set(range(26))
    assert [texts.LETTERS[vowel] for vowel in texts.VOWELS] == list("aeiou")


def test_help_pages_are_english_text():
    text, alphabet = texts.help_pages(20_000)
    assert text.shape == (20_000,)
    assert set(np.unique(text)) == set(range(alphabet))
    assert 40 < alphabet < 128
    # A blank is the most common character of a text.
    assert np.bincount(text).max() > 1500
