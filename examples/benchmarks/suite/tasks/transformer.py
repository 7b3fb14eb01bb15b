"""A character transformer: two layers that predict the next character of Python's help pages.

Reference:
    Vaswani et al., Attention is all you need, NeurIPS 2017; normalised before each part, after
    Xiong et al., https://arxiv.org/abs/2002.04745.
"""

from __future__ import annotations

from typing import Any

import keras

from benchmarks.common import task as task_lib
from benchmarks.suite import entry as entry_lib
from benchmarks.suite import texts
from helpers import text_data


class Places(keras.layers.Layer):
    """Adds a learned vector for each place of a sequence."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Makes the vectors."""
        self._vectors = self.add_weight(shape=shape[1:], initializer="uniform", name="vectors")

    def call(self, inputs: Any) -> Any:
        """Returns the sums, shape (rows, length, width)."""
        return inputs + self._vectors


def _block(x: Any, width: int) -> Any:
    normalised = keras.layers.LayerNormalization()(x)
    attention = keras.layers.MultiHeadAttention(2, width // 2)
    x = x + attention(normalised, normalised, use_causal_mask=True)
    hidden = keras.layers.LayerNormalization()(x)
    hidden = keras.layers.Dense(4 * width, activation="gelu")(hidden)
    return x + keras.layers.Dense(width)(hidden)


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 1,024 texts of 32 characters, 48 wide, two heads, batches of 256."""
    rows, length, width, layers = (64, 5, 4, 1) if form.quick else (1024, 32, 48, 2)
    text, alphabet = texts.help_pages(rows * length + 1)
    sequences = text_data.sequences(text, length)

    def build(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((length,), dtype="int32")
        x = Places()(keras.layers.Embedding(alphabet, width)(inputs))
        for _ in range(layers):
            x = _block(x, width)
        return keras.Model(inputs, keras.layers.Dense(alphabet)(x))

    task = task_lib.Task(
        "transformer",
        sequences[:, :-1],
        sequences[:, 1:],
        build,
        figure="training cross-entropy a character",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return entry_lib.Entry(task, False, 256, (32, 16, 64), steps_at_once=2)
