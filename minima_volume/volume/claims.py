"""What may be claimed: which numbers are estimates, and which of several comparisons are clear.

One rule for words, tables, reports and figures. A number is an estimate if it has a lower and an upper limit. What is not an estimate is not
put in order, fitted or averaged without a word. Whoever makes several comparisons at once claims only what Holm's procedure leaves of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minima_volume.confidence import CLEAR


def clear(p_values: float | Sequence[float] | np.ndarray) -> np.ndarray:
    """Which p-values are small enough for a claim: at most 0.05, adjusted if several comparisons are made together; NaN is none.

    >>> clear([0.05, 0.06, float("nan")]).tolist()
    [True, False, False]
    """
    return np.asarray(np.asarray(p_values, dtype=float) <= CLEAR)


def is_estimate(value: float | None, interval: Sequence[float | None] | None) -> bool:
    """Whether a number has a value and two finite limits; without these it is bounded from one side, or undefined.

    >>> is_estimate(-2.0, (-2.1, -1.9)), is_estimate(-2.0, (-5.7, None)), is_estimate(None, None)
    (True, False, False)
    """
    if interval is None:
        return False
    return all(number is not None and math.isfinite(number) for number in (value, *interval))


def order_note(values: Sequence[float | None], intervals: Sequence[Sequence[float | None] | None]) -> str | None:
    """What a reader must know about an order of these numbers; None if all that have a value are estimates."""
    known = [is_estimate(*pair) for pair in zip(values, intervals, strict=True) if pair[0] is not None]
    if all(known):
        return None
    return f"{known.count(False)} of {len(known)} volumes are no estimates: this is the order of the numbers, not a claim about the minima"


def two_sided(probability: float | None) -> float | None:
    """p-value of no difference, from the probability that the first is larger.

    >>> round(two_sided(0.99), 6), two_sided(0.5), two_sided(None)
    (0.02, 1.0, None)
    """
    return None if probability is None else 2 * min(probability, 1 - probability)


def holm(p_values: Sequence[float | None] | np.ndarray) -> np.ndarray:
    """Adjust the p-values of comparisons that are made together (Holm 1979).

    Claiming only what has an adjusted p-value of at most 0.05 makes any wrong claim with a probability of at most 0.05, however the
    comparisons depend on each other.

    Args:
        p_values: (m,) of one family; NaN or None for what could not be tested, which stays NaN and does not count.

    Returns:
        (m,) the k-th smallest times m - k + 1, at least as large as those before it, at most 1.

    >>> holm([0.01, 0.04, 0.03, None]).round(6).tolist()
    [0.03, 0.06, 0.06, nan]
    """
    raw = np.asarray(p_values, dtype=float)
    adjusted = np.full(raw.shape, np.nan)
    order = np.argsort(raw)[: np.isfinite(raw).sum()]  # NaN sort to the end
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.maximum.accumulate(np.minimum(raw[order] * factors, 1.0))
    return adjusted


def p_text(p_value: float, adjusted: float | None = None, count: int = 1) -> str:
    """One comparison's p-value, and among how many it was adjusted, to read.

    >>> p_text(0.004), p_text(0.00001, 0.00005, 5)
    ('p = 0.004, this comparison alone', 'p < 0.001; p < 0.001 after Holm over 5 comparisons')
    """
    if adjusted is None:
        return f"{_p(p_value)}, this comparison alone"
    return f"{_p(p_value)}; {_p(adjusted)} after Holm over {count} comparison{'s' * (count != 1)}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
