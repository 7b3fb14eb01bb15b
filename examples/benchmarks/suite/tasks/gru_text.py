"""A GRU that tells whether the number of vowels among 40 letters is odd."""

from __future__ import annotations

import keras
import numpy as np

from benchmarks.suite import entry as entry_lib
from benchmarks.suite import text_classifier, texts


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 4,000 texts, embedding of 16, GRU of 48, batches of 1,000."""
    rows, length, units = (64, 5, 3) if form.quick else (4000, 40, 48)
    x = texts.random_letters(rows, length, seed=0)
    y = np.isin(x, texts.VOWELS).sum(axis=1) % 2
    return text_classifier.make_entry("gru_text", x, y, keras.layers.GRU, units)
