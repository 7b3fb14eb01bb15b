"""Text as sequences of characters: sets of TensorFlow Datasets, and the Penn Treebank's files."""

from __future__ import annotations

import pathlib
import sys
from typing import NamedTuple

import numpy as np

PENN_TREEBANK = "penn_treebank"
_SPLITS = ("train", "valid", "test")
# The usual distribution (T. Mikolov's simple-examples) has the text by words and by characters.
_FORMS = ("ptb.{}.txt", "ptb.char.{}.txt")


class Text(NamedTuple):
    """A text in numbers.

    Attributes:
        train: Shape (characters,), int32 indices into `alphabet`.
        valid: The same for the validation part.
        alphabet: All characters of both parts, sorted.
    """

    train: np.ndarray
    valid: np.ndarray
    alphabet: str


def load_text(
    name: str,
    *,
    ptb_dir: str | None = None,
    data_dir: str | None = None,
    download: bool = False,
) -> Text:
    """Returns the training and validation parts of a text.

    Args:
        name: `"penn_treebank"`, or a set in TensorFlow Datasets with a feature `text` and the
            splits train and validation, such as `"tiny_shakespeare"`.
        ptb_dir: Folder of the Penn Treebank: ptb.train.txt, ptb.valid.txt and ptb.test.txt, or the
            same by characters, ptb.char.train.txt and so on.
        data_dir: Where TFDS keeps prepared sets; None for its own default.
        download: Whether a set that is not prepared may be fetched over the network.

    Raises:
        SystemExit: The set is unknown or not prepared, or a file is missing or empty; one line says
            what to do.
    """
    if name == PENN_TREEBANK:
        train, valid, _ = _penn_treebank(ptb_dir)
    else:
        train, valid = _tfds_text(name, data_dir, download)
    alphabet = "".join(sorted({*train, *valid}))
    index = {character: i for i, character in enumerate(alphabet)}

    def encoded(part: str) -> np.ndarray:
        return np.array([index[character] for character in part], "int32")

    return Text(encoded(train), encoded(valid), alphabet)


def sequences(text: np.ndarray, length: int, most: int | None = None) -> np.ndarray:
    """Cuts a text into sequences with the character that follows each.

    Args:
        text: Shape (characters,).
        length: Characters of a sequence.
        most: How many sequences at most; None for all.

    Returns:
        Shape (rows, length + 1), from the beginning of the text: the inputs are all columns but
        the last, the targets all but the first. Each row's last character is the next row's first,
        so that each transition is predicted once. No rows where the text is too short.
    """
    rows = max(len(text) - 1, 0) // length
    rows = rows if most is None else min(rows, most)
    return text[np.arange(rows)[:, None] * length + np.arange(length + 1)]


def _penn_treebank(ptb_dir: str | None) -> tuple[str, ...]:
    expected = "ptb.train.txt, ptb.valid.txt and ptb.test.txt (or ptb.char.train.txt and so on)"
    if ptb_dir is None:
        sys.exit(
            f"--dataset={PENN_TREEBANK} needs --ptb_dir, the folder with {expected}. It is not in "
            "TensorFlow Datasets; use --dataset=tiny_shakespeare without it."
        )
    folder = pathlib.Path(ptb_dir)
    if not folder.is_dir():
        sys.exit(f"--ptb_dir={ptb_dir} is not a folder. It must hold {expected}.")
    form = next((f for f in _FORMS if (folder / f.format("train")).is_file()), _FORMS[0])
    paths = [folder / form.format(split) for split in _SPLITS]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        sys.exit(f"{', '.join(missing)} missing in --ptb_dir={ptb_dir}. Put {expected} there.")
    return tuple(_read(path, by_characters=form == _FORMS[1]) for path in paths)


def _read(path: pathlib.Path, by_characters: bool) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        sys.exit(f"{path} is not UTF-8 text ({error.reason}). Use the files as distributed.")
    except OSError as error:
        sys.exit(f"{path} cannot be read: {error.strerror}.")
    if by_characters:  # "t h e _ c a t": one blank between characters, "_" for the blank itself.
        lines = [line.replace(" ", "").replace("_", " ") for line in lines]
    text = "\n".join(line.strip() for line in lines)
    if not text:
        sys.exit(f"{path} is empty. Use the files as distributed.")
    return text


def _tfds_text(name: str, data_dir: str | None, download: bool) -> tuple[str, str]:
    # Here, because the Penn Treebank's files need neither TFDS nor the seconds its import takes.
    import tensorflow_datasets as tfds

    from helpers import prepared_sets

    builder = prepared_sets.open_prepared(
        name,
        data_dir=data_dir,
        download=download,
        embedded={},
        advice=f"Choose tiny_shakespeare, or {PENN_TREEBANK} with --ptb_dir.",
    )
    features, splits = builder.info.features, builder.info.splits
    if "text" not in features:
        sys.exit(f"--dataset={name} has no feature 'text' (it has {', '.join(features)}).")
    missing = [split for split in ("train", "validation") if split not in splits]
    if missing:
        sys.exit(f"--dataset={name} has no split {missing[0]!r} (it has {', '.join(splits)}).")

    def part(split: str) -> str:
        rows = tfds.as_numpy(builder.as_dataset(split=split))
        return "\n".join(row["text"].decode("utf-8") for row in rows)

    print(f"Loading {name}", flush=True)
    return part("train"), part("validation")
