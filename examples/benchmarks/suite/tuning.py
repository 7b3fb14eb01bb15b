"""Finds the rate and the batch size of a rival."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def descend(
    figure: Callable[[float, int], float], rate: float, sizes: Sequence[int], farthest: int
) -> tuple[float, int]:
    """Returns the rate and batch size with the least figure among their neighbours.

    Rates lie half a decade apart. The search moves to a neighbour that is better, one at a time,
    until all four neighbours are worse: so the best is never the last of a list.

    Args:
        figure: Of a rate and a batch size; infinite where training diverges.
        rate: To begin with.
        sizes: Batch sizes; the first is to begin with.
        farthest: At most so many moves from the start.
    """
    ordered = sorted(sizes)
    tried: dict[tuple[int, int], float] = {}
    start = ordered.index(sizes[0])
    place: tuple[int, int] | None = (0, start)
    while place is not None:
        half_decades, index = place
        tried[place] = figure(rate * 10 ** (half_decades / 2), ordered[index])
        # Where nothing is finite, down.
        best = min(tried, key=lambda each: (tried[each], each))
        near = (
            each
            for each in _neighbours(*best)
            if each not in tried
            and 0 <= each[1] < len(ordered)
            and abs(each[0]) + abs(each[1] - start) <= farthest
        )
        place = next(near, None)
    return rate * 10 ** (best[0] / 2), ordered[best[1]]


def _neighbours(half_decades: int, index: int) -> list[tuple[int, int]]:
    return [
        (half_decades + 1, index),
        (half_decades - 1, index),
        (half_decades, index + 1),
        (half_decades, index - 1),
    ]
