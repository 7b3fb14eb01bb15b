"""Image sets of TensorFlow Datasets as arrays, without surprise downloads."""

from __future__ import annotations

import sys

import digits_dataset
import numpy as np
import prepared_sets
import tensorflow_datasets as tfds

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
    builder = prepared_sets.open_prepared(
        name,
        data_dir=data_dir,
        download=download,
        embedded=EMBEDDED,
        advice="Choose digits, mnist, fashion_mnist or another image set.",
    )
    features = builder.info.features
    if "image" not in features:
        sys.exit(f"--dataset={name} has no feature 'image' (it has {', '.join(features)}).")
    if None in features["image"].shape:
        sys.exit(f"--dataset={name} has images of different sizes; choose a set of one size.")
    print(f"Loading {name} ({split})", flush=True)
    rows = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
    return rows["image"].astype(np.float32) / 255
