"""How volume, test loss and amount of data order the minima of one landscape."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import scipy

Values = Sequence[float | None]


def ranks(values: Values) -> list[float | None]:
    """1 = largest, ties share the average rank, None stays None.

    >>> ranks([3.0, None, 5.0, 3.0])
    [2.5, None, 1.0, 2.5]
    """
    known = [value for value in values if value is not None]
    found = iter((scipy.stats.rankdata([-value for value in known]) if known else np.empty(0)).tolist())
    return [None if value is None else next(found) for value in values]


def order_holds(levels: Sequence[int], volumes: Values) -> bool | None:
    """Whether less training data always means a larger volume; None where fewer than two volumes are known.

    >>> order_holds([0, 10, 20], [5.0, 4.0, 1.0]), order_holds([0, 10], [1.0, 4.0])
    (True, False)
    """
    known = [volume for _, volume in sorted(zip(levels, volumes, strict=True)) if volume is not None]
    return None if len(known) < 2 else all(a > b for a, b in pairwise(known))


def native_is_largest(landscape: int, levels: Sequence[int], volumes: Values) -> bool | None:
    """Whether the minimum trained on the landscape's own data is the largest; None where its volume is unknown."""
    known = {level: volume for level, volume in zip(levels, volumes, strict=True) if volume is not None}
    if landscape not in known or len(known) < 2:
        return None
    return known[landscape] == max(known.values())


def ordering_violations(volumes: Values, test_losses: Sequence[float]) -> int:
    """Minima sorted by volume, descending: adjacent pairs whose test loss decreases.

    >>> ordering_violations([3.0, 2.0, 1.0], [0.1, 0.3, 0.2])
    1
    """
    losses = [loss for _, loss in _by_volume(volumes, test_losses)]
    return sum(b < a for a, b in pairwise(losses))


def discordant_pairs(volumes: Values, test_losses: Sequence[float]) -> int:
    """Pairs in which the larger minimum has the larger test loss."""
    pairs = _by_volume(volumes, test_losses)
    return sum(
        (pairs[i][0] > pairs[j][0]) and (pairs[i][1] > pairs[j][1])
        for i in range(len(pairs))
        for j in range(i + 1, len(pairs))
    )


def spearman(volumes: Values, test_losses: Sequence[float]) -> float | None:
    """Spearman's rank correlation of volume and test loss; None where it is undefined."""
    pairs = _by_volume(volumes, test_losses)
    if len({pair[0] for pair in pairs}) < 2 or len({pair[1] for pair in pairs}) < 2:
        return None
    return float(scipy.stats.spearmanr(*zip(*pairs, strict=True)).statistic)


def _by_volume(volumes: Values, test_losses: Sequence[float]) -> list[tuple[float, float]]:
    known = [(volume, loss) for volume, loss in zip(volumes, test_losses, strict=True) if volume is not None]
    return sorted(known, key=lambda pair: -pair[0])
