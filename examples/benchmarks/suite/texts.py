"""Texts as rows of characters: letters drawn at random, and the help pages of Python."""

from __future__ import annotations

import pydoc_data.topics

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOWELS = np.array([LETTERS.index(vowel) for vowel in "aeiou"])


def random_letters(rows: int, length: int, seed: int) -> np.ndarray:
    """Returns indices of `LETTERS`, shape (rows, length), int32."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, len(LETTERS), (rows, length)).astype(np.int32)


def help_pages(characters: int) -> tuple[np.ndarray, int]:
    """Returns the beginning of Python's help pages, and the size of its alphabet.

    They come with every Python; another version has other words.

    Returns:
        Indices of characters, shape (characters,), int32, and how many different ones there are.
    """
    topics = pydoc_data.topics.topics
    text = "\n".join(topics[name] for name in sorted(topics))[:characters]
    alphabet, indices = np.unique(list(text), return_inverse=True)
    return indices.astype(np.int32), len(alphabet)
