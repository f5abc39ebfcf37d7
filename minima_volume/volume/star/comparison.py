"""Is one star region larger than another? Differences of log-volumes over shared directions, with intervals and probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy

from minima_volume.errors import ConfigError
from minima_volume.volume.comparison import UNKNOWN, Difference, star_verdict
from minima_volume.volume.star.uncertainty import Bootstrap, bootstrap
from minima_volume.volume.star.volume import StarVolume


@dataclass(frozen=True)
class Comparison:
    """Two minima of one landscape.

    Attributes:
        names: what verdicts call them.
        log_exp_r_n: difference of log mean r^n, the published number.
        log_volume: difference of the log-volumes in parameter space.
        bounds: the names of those that are no estimates.
        undefined: why there is nothing to compare, or None.
    """

    names: tuple[str, str]
    log_exp_r_n: Difference = UNKNOWN
    log_volume: Difference = UNKNOWN
    bounds: tuple[str, ...] = ()
    undefined: str | None = None

    @property
    def told_apart(self) -> bool:
        """Whether one log-volume is larger, by this pair's own p-value."""
        return self.log_volume.told_apart()

    @property
    def verdict(self) -> str:
        """Which is larger, judged by the log-volume of this pair alone, or that they cannot be told apart."""
        return self.verdict_among(None, 1)

    def verdict_among(self, adjusted: float | None, count: int) -> str:
        """The verdict of one of several pairs that are compared together.

        Args:
            adjusted: its p-value after Holm's procedure; NaN if it could not be tested.
            count: pairs that could be tested.
        """
        if self.undefined is not None:
            return f"undefined: {self.undefined}"
        return star_verdict(self.names, self.log_volume, self.bounds, adjusted, count)


def compare(first: StarVolume, second: StarVolume, names: tuple[str, str] = ("the first", "the second")) -> Comparison:
    """Compare two minima whose radii were measured along the same directions, at this pair's own 95 %.

    Where both effective sample sizes allow it, directions are resampled for both at once (bootstrap-t): what a direction does to
    both radii alike cancels. Where either is no estimate there is no probability, and a limit is stated only as far as it
    follows from one minimum's lower limit and the other's upper limit, which two lower limits never give.

    Several pairs at once need `Comparison.verdict_among`, whose p-values are adjusted for their number.

    Args:
        first, second: the estimates.
        names: what the verdict calls them.

    Raises:
        ConfigError: they were measured along different directions.
    """
    for name, minimum in zip(names, (first, second), strict=True):
        if minimum.estimate is None:
            return Comparison(names, undefined=f"{name}: {minimum.note}")
    if first.num_params != second.num_params:
        dimensions = f"{first.num_params} and {second.num_params} dimensions"
        return Comparison(names, undefined=f"volumes in {dimensions} have no common unit")
    if not np.array_equal(first.seeds, second.seeds):
        raise ConfigError(
            f"{names[0]} has {len(first.seeds)} and {names[1]} {len(second.seeds)} directions with different seeds: "
            "a paired comparison needs the same directions"
        )
    assert first.log_volume is not None and first.log_exp_r_n is not None
    assert second.log_volume is not None and second.log_exp_r_n is not None
    shift = (first.log_volume - first.log_exp_r_n) - (second.log_volume - second.log_exp_r_n)
    bounds = tuple(name for name, volume in zip(names, (first, second), strict=True) if not volume.is_estimate)
    return Comparison(names, *_differences(first, second, shift), bounds)


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
