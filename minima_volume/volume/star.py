"""The published estimate: the volume of the star region from the radii of random directions, and how far to trust it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, logsumexp

from minima_volume.volume.crossings import Radii


@dataclass(frozen=True)
class StarVolume:
    """What the radii of D directions say about the volume of the star region.

    Attributes:
        log_exp_r_n: log mean_i r_i^n, n log(radius unit); None where undefined, with the reason in `note`.
        log_volume: log V_n + log mean r^n + sum_j log F_j, the Lebesgue volume in parameter space; None likewise.
        effective_sample_size: (sum w)^2 / sum w^2 with w_i = r_i^n: how many directions the mean rests on.
        largest_share: share of the largest direction in the mean.
        num_directions: D.
        num_censored: directions that never passed the threshold; their radii are lower bounds, so the volume is one too.
        num_reentered: directions that are inside again further out.
        note: why the values are None, or None.
    """

    log_exp_r_n: float | None
    log_volume: float | None
    effective_sample_size: float | None
    largest_share: float | None
    num_directions: int
    num_censored: int
    num_reentered: int
    note: str | None = None

    @property
    def verdict(self) -> str:
        """How far to trust it, in words."""
        if self.log_exp_r_n is None:
            return f"undefined: {self.note}"
        assert self.effective_sample_size is not None and self.largest_share is not None
        parts = []
        if self.num_censored:
            parts.append(
                f"lower bound: {self.num_censored} of {self.num_directions} directions never crossed the threshold"
            )
        if self.effective_sample_size < 10:
            parts.append(
                f"lower bound: one direction carries {self.largest_share:.0%}; "
                f"effective sample size {self.effective_sample_size:.1f} of {self.num_directions}"
            )
        return (
            "; ".join(parts)
            or f"estimate: effective sample size {self.effective_sample_size:.0f} of {self.num_directions}"
        )


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
    logs = n * np.log(radius.astype(np.float64))
    total = logsumexp(logs)
    effective = math.exp(2 * total - logsumexp(2 * logs))
    return float(total - math.log(len(logs))), effective, math.exp(logs.max() - total)


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
        note = f"the minimum itself is outside: its value at coefficient 0 is {radii.start:.6g}; train longer or choose another threshold"
        return StarVolume(None, None, None, None, *counts, note)
    if n == 0:
        return StarVolume(None, None, None, None, *counts, "no parameter moves: every scaling is 0")
    log_mean, effective, share = log_mean_power(radii.radius, n)
    return StarVolume(log_mean, log_unit_ball(n) + log_mean + log_det, effective, share, *counts)
