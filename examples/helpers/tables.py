"""Tables of results, as files and for documents. Needs nothing but Python."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Iterable, Sequence


def write_csv(
    path: pathlib.Path,
    header: Sequence[str],
    rows: Iterable[Iterable[object]],
    made_with: str = "",
) -> None:
    """Writes a table; where it says with what it was made, a first line is a comment with that."""
    with path.open("w", newline="") as file:
        if made_with:
            file.write(f"# {made_with}\n")
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table in Markdown; floats have four digits, and None is an empty cell."""
    lines = [header, ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
