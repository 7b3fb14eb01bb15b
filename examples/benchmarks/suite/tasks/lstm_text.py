"""An LSTM that tells which of two letters stood last among 40."""

from __future__ import annotations

import keras
import numpy as np

from benchmarks.suite import entry as entry_lib
from benchmarks.suite import text_classifier, texts


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 4,000 texts, embedding of 16, LSTM of 48, batches of 1,000."""
    rows, length, units = (64, 5, 3) if form.quick else (4000, 40, 48)
    x = texts.random_letters(rows, length, seed=1)
    place = np.arange(1, length + 1)
    last = [(place * (x == letter)).max(axis=1) for letter in texts.VOWELS[:2]]
    return text_classifier.make_entry("lstm_text", x, last[0] > last[1], keras.layers.LSTM, units)
