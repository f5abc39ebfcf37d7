"""Two minima side by side: their difference, the rule by which they are told apart, and the words for it.

Star regions and Gaussian local volumes differ in how a difference is tested (`star.comparison`, `gaussian.comparison`), not in what may be
said of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minima_volume.confidence import CONFIDENCE
from minima_volume.numerals import fixed
from minima_volume.volume.claims import clear, holm, p_text

CANNOT_TELL = "these two minima cannot be told apart"


@dataclass(frozen=True)
class Difference:
    """First minus second, in nats.

    Attributes:
        value: of the two estimates; None if either is undefined, or no estimate where only estimates are compared.
        lower, upper: of the 95 % interval; None if there is no limit on that side.
        probability: that the first is larger; None unless both are estimates.
        p_value: of no difference, two-sided; None if the limits leave nothing to be tested.
    """

    value: float | None
    lower: float | None = None
    upper: float | None = None
    probability: float | None = None
    p_value: float | None = None

    @property
    def sign(self) -> int:
        """1 if the interval is above 0, -1 if it is below, else 0."""
        return int(self.lower is not None and self.lower > 0) - int(self.upper is not None and self.upper < 0)

    def told_apart(self, adjusted: float | None = None) -> bool:
        """Whether one is larger: by the p-value of this pair alone, or by the adjusted one if several are compared."""
        deciding = self.p_value if adjusted is None else adjusted
        return deciding is not None and bool(clear(deciding))


UNKNOWN = Difference(None)


@dataclass(frozen=True)
class Family:
    """Pairs that are compared together: Holm's procedure over those that can be tested.

    Attributes:
        adjusted: (m,) p-values; NaN for a pair that cannot be tested.
    """

    adjusted: np.ndarray

    @classmethod
    def of(cls, p_values: Sequence[float | None]) -> Family:
        return cls(holm(p_values))

    @property
    def told_apart(self) -> list[bool]:
        """(m,) which pairs are."""
        return [bool(apart) for apart in clear(self.adjusted)]

    @property
    def count(self) -> int:
        """Pairs that could be tested."""
        return int(np.isfinite(self.adjusted).sum())


def pairs_to_compare(native: int | None, levels: Sequence[int]) -> list[tuple[int, int]]:
    """Positions of the pairs that the study's claims are about: neighbours in level, and the native minimum with every other.

    Neighbours decide whether less data always means a larger volume, the native pairs whether it is the largest. All pairs of
    many minima would say little more.

    Args:
        native: level of the native minimum, or None if there is none.
        levels: of the minima.

    >>> pairs_to_compare(0, [0, 10, 20])
    [(0, 1), (0, 2), (1, 2)]
    """
    pairs = {(i, i + 1) for i in range(len(levels) - 1)}
    if native is not None and native in levels:
        at = list(levels).index(native)
        pairs |= {(min(at, i), max(at, i)) for i in range(len(levels)) if i != at}
    return sorted(pairs)


def mass_verdict(names: Sequence[str], difference: Difference, adjusted: float | None = None, count: int = 1) -> str:
    """Which of two Gaussian local volumes is larger, or that they cannot be told apart.

    Args:
        names: of the two.
        difference: of their log masses.
        adjusted: its p-value after Holm's procedure; None: this pair is the only one.
        count: how many are compared together.

    >>> mass_verdict(["+0", "+540"], Difference(2.1, 1.8, 2.4, 0.998, 0.004))
    '+0 is larger than +540 by 2.10 (1.80 to 2.40; p = 0.004, this comparison alone)'
    """
    low, high = difference.lower, difference.upper
    if difference.p_value is None or difference.value is None or low is None or high is None:
        return f"{names[0]} and {names[1]} cannot be compared: one of them is no estimate"
    tested = p_text(difference.p_value, adjusted, count)
    if not difference.told_apart(adjusted):
        limits = f"{fixed(low)} to {fixed(high)}"
        return (
            f"{names[0]} and {names[1]} cannot be told apart: difference {fixed(difference.value)} ({limits}; {tested})"
        )
    low, high = _sizes(difference)
    larger, smaller = _ordered(names, difference)
    return f"{larger} is larger than {smaller} by {abs(difference.value):.2f} ({low:.2f} to {high:.2f}; {tested})"


def star_verdict(
    names: Sequence[str],
    difference: Difference,
    bounds: Sequence[str] = (),
    adjusted: float | None = None,
    count: int = 1,
) -> str:
    """The same for two star regions, of which a limit may be all that is known.

    Args:
        names, difference, adjusted, count: as of `mass_verdict`; the difference is that of their log-volumes.
        bounds: the names of those that are no estimates.
    """
    if difference.p_value is None or adjusted is None:
        adjusted, tested = None, ""
    else:
        tested = f"; {p_text(difference.p_value, adjusted, count)}"
    if not difference.told_apart(adjusted):
        if difference.sign and tested:
            return CANNOT_TELL + tested
        reasons = {0: "the interval of their difference holds 0", 1: "{} is no estimate", 2: "neither is an estimate"}
        return f"{CANNOT_TELL}: {reasons[len(bounds)].format(*bounds)}{tested}"
    sizes = _sizes(difference)
    by = f"{sizes[0]:.3g} to {sizes[1]:.3g}" if len(sizes) == 2 else f"at least {sizes[0]:.3g}"
    own = "" if tested else " of this pair alone"
    return f"{_ordered(names, difference)[0]} is larger, by {by} nats ({CONFIDENCE:.0%} interval{own}){tested}"


def _ordered(names: Sequence[str], difference: Difference) -> tuple[str, str]:
    """The larger and the smaller."""
    assert difference.value is not None
    return (names[0], names[1]) if difference.value > 0 else (names[1], names[0])


def _sizes(difference: Difference) -> list[float]:
    """The limits as sizes of the lead, the smaller first."""
    assert difference.value is not None
    side = 1 if difference.value > 0 else -1
    return sorted(max(0.0, side * limit) for limit in (difference.lower, difference.upper) if limit is not None)
