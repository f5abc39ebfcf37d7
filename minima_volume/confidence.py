"""The level of every interval and of every claim of the package, and what follows from it for means over random sources."""

from __future__ import annotations

import math
from collections.abc import Sequence

CONFIDENCE = 0.95  # of an interval
CLEAR = 0.05  # largest p-value of what is claimed: 1 - CONFIDENCE without its rounding

Source = tuple[
    float, int
]  # what it adds to the squared standard error of a mean, and how many of its values that comes from


def student(degrees: int) -> float:
    """Student's t that a 95 % interval reaches to.

    >>> round(student(2), 3)
    4.303
    """
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def half_width(sources: Sequence[Source]) -> float:
    """Half of the 95 % interval of a mean that several crossed random sources move: sqrt(sum t^2 V).

    Each source has the quantile t of its own K - 1 degrees of freedom, so that three seeds weigh as three and ten thousand images as many.

    Args:
        sources: V and K of each, K > 1.

    Source: Howe 1974, "Approximate confidence limits on the mean of X + Y where X and Y are two tabled independent random variables".

    >>> round(half_width([(1.0, 3)]), 3), round(half_width([(1.0, 3), (1.0, 3)]), 3)
    (4.303, 6.085)
    """
    return math.sqrt(sum(variance * student(count - 1) ** 2 for variance, count in sources))


def mean_p_value(mean: float, sources: Sequence[Source]) -> float:
    """Two-sided p-value that such a mean is 0: 1 minus the level at which its interval just touches 0.

    Of one source it is that of Student's t test. NaN where no source adds anything: without a spread there is nothing to judge by.

    Args:
        mean: the estimate.
        sources: as of `half_width`.

    >>> round(mean_p_value(4.303, [(1.0, 3)]), 3), mean_p_value(1.0, [(0.0, 3)])
    (0.05, nan)
    >>> round(mean_p_value(6.085, [(1.0, 3), (1.0, 3)]), 3)
    0.05
    """
    from scipy.optimize import brentq
    from scipy.special import stdtr, stdtrit

    known = [(variance, count - 1) for variance, count in sources if variance > 0]
    if not known:
        return math.nan

    def largest(scale: float) -> float:
        return max(2 * float(stdtr(degrees, -abs(mean) / (scale * math.sqrt(variance)))) for variance, degrees in known)

    def beyond(p_value: float) -> float:
        """By how much the interval of this level reaches beyond 0."""
        return math.sqrt(sum(v * float(stdtrit(degrees, p_value / 2)) ** 2 for v, degrees in known)) - abs(mean)

    low, high = (
        largest(1.0),
        largest(math.sqrt(len(known))),
    )  # no source alone is as wide; all as wide as the widest are wider
    if len(known) == 1 or low == high or low < 1e-100:  # (quantiles of smaller shares have no digits left)
        return low
    if beyond(low) <= 0 or beyond(high) >= 0:  # they meet there, but for rounding
        return low if beyond(low) <= 0 else high
    return float(brentq(beyond, low, high, xtol=1e-9 * low))
