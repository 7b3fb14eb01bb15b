"""Opens sets of TensorFlow Datasets, without surprise downloads and without minutes of retries."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader


def open_prepared(
    name: str,
    *,
    data_dir: str | None = None,
    download: bool = False,
    embedded: Mapping[str, type[tfds.core.DatasetBuilder]],
    advice: str,
) -> tfds.core.DatasetBuilder:
    """Returns the builder of a set that lies on disk, prepared if need be and allowed.

    Args:
        name: Name of a set in TensorFlow Datasets, or of an embedded one.
        data_dir: Where prepared sets lie; None for TFDS's own default.
        download: Whether a set that is not prepared may be fetched over the network.
        embedded: Builders by name that need no network.
        advice: Ends the message about an unknown name: what to choose instead.

    Raises:
        SystemExit: The set is unknown, not prepared, or cannot be fetched; one line says what to
            do.
    """
    builder = _builder(name, data_dir or os.environ.get("TFDS_DATA_DIR"), embedded, advice)
    if not builder.is_prepared():
        _prepare(builder, name, is_local=name in embedded, download=download)
    return builder


def _builder(
    name: str,
    data_dir: str | None,
    embedded: Mapping[str, type[tfds.core.DatasetBuilder]],
    advice: str,
) -> tfds.core.DatasetBuilder:
    try:
        if name in embedded:
            return embedded[name](data_dir=data_dir)
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        sys.exit(
            f"--dataset={name} is not in TensorFlow Datasets and not prepared in --data_dir "
            f"({reason}). {advice}"
        )


def _prepare(
    builder: tfds.core.DatasetBuilder, name: str, *, is_local: bool, download: bool
) -> None:
    if not is_local:
        if not download:
            sys.exit(
                f"--dataset={name} is not prepared in {builder.data_dir}. Run again with "
                "--download to fetch it over the network, or point --data_dir to where it is."
            )
        print(f"Fetching {name} over the network into {builder.data_dir}", flush=True)
    tfds.disable_progress_bar()
    # TFDS would ask each address eleven times with growing pauses, minutes without a network.
    downloader.MAX_RETRIES = 2
    try:
        builder.download_and_prepare()
    except (OSError, tfds.download.DownloadError) as error:
        sys.exit(f"--dataset={name} could not be fetched: {error}. Check the network.")
