"""The published estimate: the volume of the star region from the radii of random directions, and how far to trust it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.special import gammaln

from minima_volume.volume.claims import is_estimate
from minima_volume.volume.condition import Condition
from minima_volume.volume.star.radii import Radii
from minima_volume.volume.star.uncertainty import Interval, LogMean, log_mean, needed_sample_size


@dataclass(frozen=True)
class StarVolume:
    """What the radii of D directions say about the volume of the star region.

    Attributes:
        log_exp_r_n: log mean_i r_i^n, n log(radius unit); None if undefined, with the reason in `note`.
        log_volume: log V_n + log mean r^n + sum_j log F_j, the Lebesgue volume in parameter space; None likewise.
        effective_sample_size: (sum w)^2 / sum w^2 with w_i = r_i^n: how many directions the mean rests on.
        largest_share: share of the largest direction in the mean.
        num_directions: D.
        num_censored: directions that never passed the threshold; their radii are lower limits, so the volume has no upper one.
        num_reentered: directions that are inside again further out.
        note: why the values are None, or None.
        estimate: log_exp_r_n with its 95 % interval and the weight of its tail; None if undefined.
        num_params: n.
        logs: (D,) n log r_i; empty where undefined.
        seeds: (D,) of the directions.
        still: which entries directions do not move, in words; None if they move all.
    """

    log_exp_r_n: float | None
    log_volume: float | None
    effective_sample_size: float | None
    largest_share: float | None
    num_directions: int
    num_censored: int
    num_reentered: int
    note: str | None = None
    estimate: LogMean | None = None
    num_params: int = 0
    logs: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False)
    seeds: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=int), repr=False)
    still: str | None = None

    @property
    def is_estimate(self) -> bool:
        """Whether it has a value and two limits, see `claims`."""
        return is_estimate(self.log_exp_r_n, self.interval)

    @property
    def interval(self) -> Interval | None:
        """95 % interval of log_exp_r_n; the upper limit is None if it is no estimate."""
        return None if self.estimate is None else self.estimate.interval

    @property
    def log_volume_interval(self) -> Interval | None:
        """The same for the log-volume."""
        if self.estimate is None or self.log_volume is None:
            return None
        shift = self.log_volume - self.estimate.value
        low, high = self.estimate.interval
        return low + shift, None if high is None else high + shift

    @property
    def verdict(self) -> str:
        """How far to trust it, in words."""
        return "; ".join(filter(None, (self._trust(), self.still)))

    def _trust(self) -> str:
        estimate, limits = self.estimate, self.log_volume_interval
        if estimate is None or limits is None:
            return f"undefined: {self.note}"
        size = f"effective sample size {estimate.effective_sample_size:.{0 if self.is_estimate else 1}f}"
        if self.is_estimate:
            return f"estimate: {size} of {self.num_directions}"
        reasons = []
        if self.num_censored:
            reasons.append(f"{self.num_censored} of {self.num_directions} directions never crossed the threshold")
        if not estimate.trusted:
            if estimate.largest_share >= 0.5:
                decides, tail = "one direction of {} decides it", ""
            else:
                decides, heavy = "few of {} directions decide it", needed_sample_size(estimate.pareto_k) > 20
                shape = f", too small for a tail of Pareto shape {estimate.pareto_k:.1f}"
                tail = shape if heavy and math.isfinite(estimate.pareto_k) else ""
            reasons.append(f"{decides.format(self.num_directions)} ({size}{tail})")
        return f"cannot be trusted: {'; '.join(reasons)}; the log-volume is above {limits[0]:,.1f} (97.5 %)"


def log_unit_ball(n: int) -> float:
    """log V_n, the volume of the unit ball in n dimensions.

    >>> round(math.exp(log_unit_ball(3)), 6) == round(4 / 3 * math.pi, 6)
    True
    """
    return n / 2 * math.log(math.pi) - float(gammaln(n / 2 + 1))


def log_mean_power(radius: np.ndarray, n: int) -> tuple[float, float, float]:
    """log mean r^n, effective sample size and largest share, by log-sum-exp in float64.

    Args:
        radius: (D,) positive radii.
        n: dimension.

    >>> log_mean_power(np.array([2.0, 2.0]), 3)[0] == 3 * math.log(2.0)
    True
    """
    found = log_mean(n * np.log(radius.astype(np.float64)))
    return found.value, found.effective_sample_size, found.largest_share


def star_volume(radii: Radii, n: int, log_det: float) -> StarVolume:
    """The published estimate from one minimum's radii.

    xi / ||xi|| is uniform on the sphere in coordinates z with theta = theta* + F z, so the Lebesgue volume of the star region
    is V_n E[r^n] prod_j F_j.

    Args:
        radii: of D directions.
        n: the perturbed entries.
        log_det: sum_j log F_j.
    """
    counts = len(radii.radius), int(radii.censored.sum()), int(radii.reentered.sum())
    if radii.outside:
        return StarVolume(None, None, None, None, *counts, Condition.outside_note(radii.start))
    if n == 0:
        return StarVolume(None, None, None, None, *counts, "no parameter moves: every scaling is 0")
    logs = n * np.log(radii.radius.astype(np.float64))
    found = log_mean(logs, num_censored=counts[1])
    return StarVolume(
        found.value,
        log_unit_ball(n) + found.value + log_det,
        found.effective_sample_size,
        found.largest_share,
        *counts,
        estimate=found,
        num_params=n,
        logs=logs,
        seeds=radii.seeds,
    )
