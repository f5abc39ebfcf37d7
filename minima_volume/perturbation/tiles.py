"""How samples are cut into tiles: by the sizes of the landscapes, so that each landscape is whole tiles or a stated part of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SMALLEST_TILE = 32


@dataclass(frozen=True)
class Tile:
    """Samples start .. stop, cut at the landscapes' sizes that fall inside.

    Attributes:
        start, stop: the samples.
        cuts: ends of the segments inside, relative to start; the last is stop - start.
    """

    start: int
    stop: int
    cuts: tuple[int, ...]


def plan_tiles(sizes: Sequence[int], largest: int, smallest: int = SMALLEST_TILE) -> list[Tile]:
    """Cut samples 0 .. max(sizes) into tiles of at most `largest` samples that end at landscape sizes where they can.

    A landscape that would make a tile of fewer than `smallest` samples shares it with the next landscape. The plan depends on the
    run's landscapes alone, never on which of them are asked for, so neither do the last digits of a loss.

    Args:
        sizes: samples of every landscape of the run.
        largest: samples that a tile may hold.
        smallest: samples that are worth a tile of their own.

    >>> plan_tiles([20, 50, 350], 128)[:2]
    [Tile(start=0, stop=50, cuts=(20, 50)), Tile(start=50, stop=150, cuts=(100,))]
    """
    ends = sorted(set(sizes))
    tiles: list[Tile] = []
    start = 0
    while start < ends[-1]:
        target = next((end for end in ends if end - start >= smallest), ends[-1])
        parts = math.ceil((target - start) / largest)
        stop = start + math.ceil((target - start) / parts)
        inside = tuple(end - start for end in ends if start < end < stop)
        tiles.append(Tile(start, stop, (*inside, stop - start)))
        start = stop
    return tiles


def tiles_for(tiles: Sequence[Tile], size: int) -> list[Tile]:
    """The tiles that a landscape of `size` samples needs."""
    return [tile for tile in tiles if tile.start < size]
