"""Data of the adding problem."""

from __future__ import annotations

import numpy as np


def sequences(length: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns sequences of (number in 0..1, mark) and the sums of the marked numbers.

    Returns:
        Shapes (rows, length, 2) and (rows, 1), float32. One mark lies in each half.
    """
    rng = np.random.default_rng(seed)
    numbers = rng.uniform(size=(rows, length)).astype(np.float32)
    half = length // 2
    first, second = rng.integers(0, half, rows), rng.integers(half, length, rows)
    marks = np.zeros_like(numbers)
    every = np.arange(rows)
    marks[every, first] = marks[every, second] = 1
    targets = numbers[every, first] + numbers[every, second]
    return np.stack([numbers, marks], axis=-1), targets[:, None]
