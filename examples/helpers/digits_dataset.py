"""A TensorFlow Datasets builder for the 1,797 handwritten digits that scikit-learn ships.

Importing this module registers the data set, so `tfds.load("digits")` works without a network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds

_TEST_ROWS = 297


class Digits(tfds.core.GeneratorBasedBuilder):
    """Images of 8x8 pixels with values 0 to 255, and their labels; 1,500 to train, 297 to test."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "1.0.0": "The digits of scikit-learn, grey levels 0..16 spread over 0..255."
    }

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits, 8x8 pixels, from the UCI repository by scikit-learn.",
            homepage="https://scikit-learn.org/stable/datasets/toy_dataset.html",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # Nothing is downloaded.
        digits = sklearn.datasets.load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        rows = list(zip(images, digits.target.tolist(), strict=True))
        return {
            "train": self._generate_examples(rows[:-_TEST_ROWS]),
            "test": self._generate_examples(rows[-_TEST_ROWS:]),
        }

    def _generate_examples(
        self, rows: list[tuple[np.ndarray, int]]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, (image, label) in enumerate(rows):
            yield index, {"image": image, "label": label}
