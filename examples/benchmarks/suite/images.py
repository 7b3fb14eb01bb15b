"""Labelled images: scikit-learn's digits, moved about, or fashion_mnist where it is prepared."""

from __future__ import annotations

import numpy as np
import sklearn.datasets

from benchmarks.suite import entry as entry_lib

# Pixels that a digit may move by, to all sides.
_MARGIN = 2
_NOISE = 0.1


def labelled(form: entry_lib.Form, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns `rows` images, shape (rows, side, side, 1), float32, and their labels, int32.

    Raises:
        SystemExit: The set is not prepared; one line says what to do.
    """
    if form.images == "digits":
        return _moved_digits(rows)
    # Here, because TFDS takes seconds to import.
    from helpers import image_data

    images, labels = image_data.load_labelled_images(form.images, "train", data_dir=form.data_dir)
    return images[:rows], labels[:rows]


def _moved_digits(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns digits at random places of a larger canvas, with noise, so that there are enough."""
    digits = sklearn.datasets.load_digits()
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(digits.images), rows)
    canvas = rng.normal(scale=_NOISE, size=(rows, 8 + 2 * _MARGIN, 8 + 2 * _MARGIN))
    places = rng.integers(0, 2 * _MARGIN + 1, (rows, 2))
    for image, digit, (top, left) in zip(canvas, chosen, places, strict=True):
        image[top : top + 8, left : left + 8] += digits.images[digit] / 16
    return canvas[..., None].astype(np.float32), digits.target[chosen].astype(np.int32)
