"""How volume, test loss and amount of data order the minima of one landscape."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import scipy

from minima_volume.confidence import CLEAR

Values = Sequence[float | None]


def ranks(values: Values) -> list[float | None]:
    """1 = largest, ties share the average rank, None stays None.

    >>> ranks([3.0, None, 5.0, 3.0])
    [2.5, None, 1.0, 2.5]
    """
    known = np.array([value for value in values if value is not None])
    return [
        None if value is None else float((known > value).sum() + ((known == value).sum() + 1) / 2) for value in values
    ]


def order_holds(levels: Sequence[int], volumes: Values) -> bool | None:
    """Whether less training data always means a larger volume; None if fewer than two volumes are known.

    >>> order_holds([0, 10, 20], [5.0, 4.0, 1.0]), order_holds([0, 10], [1.0, 4.0])
    (True, False)
    """
    known = [volume for _, volume in sorted(zip(levels, volumes, strict=True)) if volume is not None]
    return None if len(known) < 2 else all(a > b for a, b in pairwise(known))


def native_is_largest(landscape: int | None, levels: Sequence[int], volumes: Values) -> bool | None:
    """Whether the minimum trained on the landscape's own data is the largest; None if its volume is unknown."""
    known = {level: volume for level, volume in zip(levels, volumes, strict=True) if volume is not None}
    if landscape not in known or len(known) < 2:
        return None
    return known[landscape] == max(known.values())


def ordering_violations(volumes: Values, test_losses: Values) -> int:
    """How often the order by volume disagrees with the order by test loss: adjacent minima in the order of volume whose test losses are
    in the other order, the smaller minimum with the larger test loss; 0 where the rank lists agree.

    What is tied or None has no order, so it cannot disagree: None is left out, and minima of equal volume are taken in the order of
    their test losses. So there is a violation exactly where there is a discordant pair.

    >>> ordering_violations([3.0, 2.0, 1.0], [0.3, 0.2, 0.1]), ordering_violations([3.0, 2.0, 1.0], [0.1, 0.3, 0.2])
    (0, 1)
    """
    losses = [loss for _, loss in _by_volume(volumes, test_losses)]
    return sum(a < b for a, b in pairwise(losses))


def discordant_pairs(volumes: Values, test_losses: Values) -> int:
    """The same over all pairs, adjacent or not: pairs in which the larger minimum has the smaller test loss; ties do not count.

    >>> discordant_pairs([3.0, 2.0, 1.0], [0.1, 0.3, 0.2])
    2
    """
    pairs = combinations(_by_volume(volumes, test_losses), 2)
    return sum(larger > smaller and a < b for (larger, a), (smaller, b) in pairs)


def spearman(volumes: Values, test_losses: Values) -> float | None:
    """Spearman's rank correlation of volume and test loss; None if it is undefined."""
    pairs = _by_volume(volumes, test_losses)
    if len({pair[0] for pair in pairs}) < 2 or len({pair[1] for pair in pairs}) < 2:
        return None
    return float(scipy.stats.spearmanr(*zip(*pairs, strict=True)).statistic)


def spearman_interval(volumes: Values, test_losses: Values) -> tuple[tuple[float, float] | None, str | None]:
    """A 95 % interval of Spearman's rho over minima, and the reason if there is none.

    The minima are taken for a random sample of all minima, and their volumes for exact. Few of them, often in perfect order, leave
    nothing to a bootstrap or to Fisher's z, so the test is inverted: the interval holds every correlation of a Gaussian copula
    under which a rho as large as the observed one, or as small, has a chance of 2.5 % at least (simulated, fixed seed). Below
    five minima there is none: by permutation even a perfect order of four has a chance of 1/24 on its side, more than 2.5 %.

    Returns:
        (low, high) or None, and the reason for None.

    >>> spearman_interval([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    (None, '3 minima: below 5 even a perfect order is no evidence at the 5 % level')
    """
    observed = spearman(volumes, test_losses)
    if observed is None:
        return None, "undefined: volumes or test losses are unknown or all equal"
    count = len(_by_volume(volumes, test_losses))
    if count < 5:
        return None, f"{count} minima: below 5 even a perfect order is no evidence at the 5 % level"
    return _copula_interval(round(observed, 9), count), None


@functools.lru_cache(maxsize=256)
def _copula_interval(observed: float, count: int) -> tuple[float, float]:
    draws = 4000 if count <= 100 else 1000
    random = np.random.default_rng(0)
    x, noise = random.standard_normal((2, draws, count))
    x_ranks = np.argsort(np.argsort(x, axis=1), axis=1) - (count - 1) / 2
    scale = (count**3 - count) / 12

    def chance(latent: float, side: int) -> float:
        """Of a rho at least (side 1) or at most (side -1) as large as observed."""
        y = latent * x + math.sqrt(1 - latent**2) * noise
        y_ranks = np.argsort(np.argsort(y, axis=1), axis=1) - (count - 1) / 2
        return float((side * (x_ranks * y_ranks).sum(axis=1) / scale >= side * observed - 1e-9).mean())

    def limit(side: int) -> float:
        inside, outside = float(side), -float(side)  # latent correlations; towards `inside` the chance grows
        if chance(outside, side) >= CLEAR / 2:
            return outside
        for _ in range(20):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if chance(middle, side) >= CLEAR / 2 else (inside, middle)
        return inside

    low, high = (6 / math.pi * math.asin(limit(side) / 2) for side in (1, -1))  # rank correlations of the copula
    return min(low, observed), max(high, observed)


def _by_volume(volumes: Values, test_losses: Values) -> list[tuple[float, float]]:
    """The known pairs of (volume, test loss), both descending."""
    pairs = zip(volumes, test_losses, strict=True)
    return sorted(((v, loss) for v, loss in pairs if v is not None and loss is not None), reverse=True)
