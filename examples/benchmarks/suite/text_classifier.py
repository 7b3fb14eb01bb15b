"""Recurrent networks that answer yes or no about a text."""

from __future__ import annotations

import keras
import numpy as np

from benchmarks.common import task as task_lib
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import networks, texts


def make_entry(
    name: str, letters: np.ndarray, answers: np.ndarray, cell: type[keras.layers.Layer], units: int
) -> entry_lib.Entry:
    """Returns the task: an embedding, a recurrent layer and a logit.

    Args:
        name: Of the task.
        letters: Indices, shape (rows, length).
        answers: Yes or no, shape (rows,).
        cell: The recurrent layer.
        units: Of it.
    """
    task = task_lib.Task(
        name,
        letters,
        answers[:, None].astype(np.float32),
        networks.seeded(
            lambda: [
                keras.Input(letters.shape[1:], dtype="int32"),
                keras.layers.Embedding(len(texts.LETTERS), 16),
                cell(units),
                keras.layers.Dense(1),
            ]
        ),
        figure="training cross-entropy",
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return entry_lib.Entry(task, False, 1000, (100, 50, 250))
