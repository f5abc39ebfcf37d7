"""Is one minimum larger than another? Differences of log-volumes over shared directions, with intervals and probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from minima_volume.errors import ConfigError
from minima_volume.volume.claims import CLEAR, p_text
from minima_volume.volume.star.uncertainty import LEVEL, Bootstrap, bootstrap
from minima_volume.volume.star.volume import StarVolume

CANNOT_TELL = "these two minima cannot be told apart"
OWN = " of this pair alone"


@dataclass(frozen=True)
class Difference:
    """First minus second, in nats.

    Attributes:
        value: of the two estimates; None where either is undefined or they have different dimensions.
        lower, upper: of the 95 % interval; None where there is no limit on that side.
        probability: that the first is larger; None unless both are estimates.
        p_value: of no difference, two-sided; None where the limits leave nothing to be tested.
    """

    value: float | None
    lower: float | None = None
    upper: float | None = None
    probability: float | None = None
    p_value: float | None = None

    @property
    def sign(self) -> int:
        """1 where the first is larger, -1 where the second is, 0 where they cannot be told apart."""
        return int(self.lower is not None and self.lower > 0) - int(self.upper is not None and self.upper < 0)


@dataclass(frozen=True)
class Comparison:
    """Two minima of one landscape.

    Attributes:
        log_exp_r_n: difference of log mean r^n, the published number.
        log_volume: difference of the log-volumes in parameter space.
        verdict: which is larger, judged by the log-volume, or that they cannot be told apart.
    """

    log_exp_r_n: Difference
    log_volume: Difference
    verdict: str

    @property
    def told_apart(self) -> bool:
        """Whether the interval of the log-volumes' difference leaves 0 out."""
        return self.log_volume.sign != 0


def compare(first: StarVolume, second: StarVolume, names: tuple[str, str] = ("the first", "the second")) -> Comparison:
    """Compare two minima whose radii were measured along the same directions, at this pair's own 95 %.

    Where both effective sample sizes allow it, directions are resampled for both at once (bootstrap-t): what a direction does to
    both radii alike cancels. Where either is no estimate there is no probability, and a limit is stated only as far as it
    follows from one minimum's lower limit and the other's upper limit, which two lower limits never give.

    Several pairs at once need `verdict_among`, whose p-values are adjusted for their number.

    Args:
        first, second: the estimates.
        names: what the verdict calls them.

    Raises:
        ConfigError: they were measured along different directions.
    """
    for name, minimum in zip(names, (first, second), strict=True):
        if minimum.estimate is None:
            return Comparison(Difference(None), Difference(None), f"undefined: {name}: {minimum.note}")
    if first.num_params != second.num_params:
        verdict = f"undefined: volumes in {first.num_params} and {second.num_params} dimensions have no common unit"
        return Comparison(Difference(None), Difference(None), verdict)
    if not np.array_equal(first.seeds, second.seeds):
        raise ConfigError(
            f"{names[0]} has {len(first.seeds)} and {names[1]} {len(second.seeds)} directions with different seeds: "
            "a paired comparison needs the same directions"
        )
    assert first.log_volume is not None and first.log_exp_r_n is not None
    assert second.log_volume is not None and second.log_exp_r_n is not None
    shift = (first.log_volume - first.log_exp_r_n) - (second.log_volume - second.log_exp_r_n)
    published, volume = _differences(first, second, shift)
    return Comparison(published, volume, _verdict(first, second, volume, names))


def _differences(first: StarVolume, second: StarVolume, shift: float) -> tuple[Difference, Difference]:
    """Of log mean r^n, and of the log-volumes, which differ from it by a known shift."""
    assert first.estimate is not None and second.estimate is not None
    value = first.estimate.value - second.estimate.value
    lower: float | None
    upper: float | None
    chances: tuple[float | None, float | None] = None, None
    p_values: tuple[float | None, float | None]
    if first.estimate.trusted and second.estimate.trusted:
        found = bootstrap(first.logs[None], second.logs[None])
        value = float(found.value[0])
        lower, upper = (float(limit[0]) for limit in found.limits())
        if second.num_censored:
            lower = None
        if first.num_censored:
            upper = None
        if not (first.num_censored or second.num_censored):
            chances = float(found.probability_positive()[0]), float(found.probability_positive(shift)[0])
        sides = lower is not None, upper is not None
        p_values = _p_value(found, 0.0, sides), _p_value(found, shift, sides)
    else:
        (low, high), (other_low, other_high) = first.estimate.interval, second.estimate.interval
        lower = None if other_high is None else low - other_high
        upper = None if high is None else high - other_low
        p_values = _p_of_bound(first, second, 0.0), _p_of_bound(first, second, shift)
    return (
        Difference(value, lower, upper, chances[0], p_values[0]),
        Difference(value + shift, _plus(lower, shift), _plus(upper, shift), chances[1], p_values[1]),
    )


def _p_value(found: Bootstrap, shift: float, sides: tuple[bool, bool]) -> float | None:
    """Two-sided; on a side without a limit nothing is claimed, and without any there is no p-value."""
    if not any(sides):
        return None
    tails = [float(tail[0]) for tail, limited in zip(found.tails(shift), sides, strict=True) if limited]
    return min(1.0, 2 * min(tails))


def _p_of_bound(first: StarVolume, second: StarVolume, shift: float) -> float | None:
    """Of a minimum of which only Markov's limit is known, beside an estimate: is it larger? None unless it is such a pair.

    The smallest level at which log mean - log(2 / level) is above the estimate's upper limit at half that level.
    """
    assert first.estimate is not None and second.estimate is not None
    estimates = [one for one in (first, second) if one.is_estimate]
    if len(estimates) != 1:
        return None
    lead = first.estimate.value - second.estimate.value + shift
    lead = -lead if estimates[0] is first else lead
    found = bootstrap(estimates[0].logs[None])

    def room(log_half: float) -> float:
        return lead + log_half - float(found.upper(math.exp(log_half))[0] - found.value[0])

    smallest, largest = math.log(1e-300), math.log(0.5)
    if room(largest) <= 0:
        return 1.0
    return 2 * math.exp(smallest if room(smallest) > 0 else float(scipy.optimize.brentq(room, smallest, largest)))


def _plus(value: float | None, shift: float) -> float | None:
    return None if value is None else value + shift


def _verdict(first: StarVolume, second: StarVolume, difference: Difference, names: tuple[str, str]) -> str:
    if difference.sign:
        larger = names[0] if difference.sign > 0 else names[1]
        size = sorted(abs(limit) for limit in (difference.lower, difference.upper) if limit is not None)
        by = f"{size[0]:.3g} to {size[1]:.3g}" if len(size) == 2 else f"at least {size[0]:.3g}"
        return f"{larger} is larger, by {by} nats ({LEVEL:.0%} interval{OWN})"
    bounds = [name for name, volume in zip(names, (first, second), strict=True) if not volume.is_estimate]
    reasons = {0: "the interval of their difference holds 0", 1: "{} is no estimate", 2: "neither is an estimate"}
    return f"{CANNOT_TELL}: {reasons[len(bounds)].format(*bounds)}"


def verdict_among(comparison: Comparison, adjusted: float, count: int) -> str:
    """The verdict of one of several pairs that are compared together.

    Args:
        comparison: of the pair.
        adjusted: its p-value after Holm's procedure; NaN where it could not be tested.
        count: pairs that could be tested.
    """
    p_value = comparison.log_volume.p_value
    if p_value is None:
        return comparison.verdict
    text = comparison.verdict if adjusted <= CLEAR or not comparison.told_apart else CANNOT_TELL
    return f"{text.replace(OWN, '')}; {p_text(p_value, adjusted, count)}"


def pairs_to_compare(native: int | None, levels: Sequence[int]) -> list[tuple[int, int]]:
    """Positions of the pairs that the study's claims are about: neighbours in level, and the native minimum with every other.

    Neighbours decide whether less data always means a larger volume, the native pairs whether it is the largest. All pairs of
    many minima would say little more; `compare` takes any two.

    Args:
        native: level of the native minimum, or None where there is none.
        levels: of the minima.

    >>> pairs_to_compare(0, [0, 10, 20])
    [(0, 1), (0, 2), (1, 2)]
    """
    pairs = {(i, i + 1) for i in range(len(levels) - 1)}
    if native is not None and native in levels:
        at = list(levels).index(native)
        pairs |= {(min(at, i), max(at, i)) for i in range(len(levels)) if i != at}
    return sorted(pairs)
