"""Image sets of TensorFlow Datasets as arrays, without surprise downloads."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from helpers import digits_dataset, prepared_sets

# Sets that a builder of ours makes from an installed package: no network is ever needed.
EMBEDDED = {"digits": digits_dataset.Digits}


def load_images(
    name: str, split: str, *, data_dir: str | None = None, download: bool = False
) -> np.ndarray:
    """Returns the images of one split, scaled to 0..1.

    Args:
        name: Name of an image set in TensorFlow Datasets, or `"digits"`.
        split: For example `"train"`.
        data_dir: Where prepared sets lie; None for TFDS's own default.
        download: Whether a set that is not prepared may be fetched over the network.

    Returns:
        Array of shape (rows, height, width, channels), float32.

    Raises:
        SystemExit: The set is unknown, not prepared, or holds no images of one size; one line says
            what to do.
    """
    return _scaled(_rows(name, split, ["image"], data_dir, download)["image"])


def load_labelled_images(
    name: str, split: str, *, data_dir: str | None = None, download: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images of one split, as `load_images` does, and their labels.

    Returns:
        Images of shape (rows, height, width, channels), float32, and labels of shape (rows,),
        int32.

    Raises:
        SystemExit: As `load_images`, or the set has no labels.
    """
    rows = _rows(name, split, ["image", "label"], data_dir, download)
    return _scaled(rows["image"]), rows["label"].astype(np.int32)


def _scaled(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / 255


def _rows(
    name: str, split: str, wanted: Sequence[str], data_dir: str | None, download: bool
) -> dict[str, np.ndarray]:
    builder = prepared_sets.open_prepared(
        name,
        data_dir=data_dir,
        download=download,
        embedded=EMBEDDED,
        advice="Choose digits, mnist, fashion_mnist or another image set.",
    )
    features = builder.info.features
    for feature in wanted:
        if feature not in features:
            sys.exit(f"--dataset={name} has no feature '{feature}' (it has {', '.join(features)}).")
    if None in features["image"].shape:
        sys.exit(f"--dataset={name} has images of different sizes; choose a set of one size.")
    print(f"Loading {name} ({split})", flush=True)
    rows: dict[str, np.ndarray] = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
    return rows
