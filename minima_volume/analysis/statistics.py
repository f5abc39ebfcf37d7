"""Means with intervals and straight lines: the few statistics that all tables over seeds share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minima_volume.errors import ConfigError

LEVEL = 0.95
DRAWS = 4000  # of a bootstrap


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Attributes:
        value: the mean; NaN where there are no values.
        lower, upper: its 95 % interval; NaN below two values.
        count: the values it is made of.
    """

    value: float
    lower: float
    upper: float
    count: int


def mean_interval(
    values: Sequence[float] | np.ndarray, interval: str = "t", possible: tuple[float, float] = (-math.inf, math.inf)
) -> Mean:
    """The mean of independent values, one a seed, with a 95 % interval; undefined (NaN) values are left out.

    Args:
        values: one a seed.
        interval: `t`: mean +- t * s / sqrt(k), Student's t with k - 1 degrees of freedom, exact for normal values; `bootstrap`: percentiles
            of the means of 4,000 resamples (fixed seed), which needs no normal law but is too narrow below some ten seeds.
        possible: values beyond which none can be: the interval ends there (a bootstrapped one stays within the given values).

    Raises:
        ConfigError: no such interval.

    >>> found = mean_interval([1.0, 2.0, 3.0])
    >>> found.value, round(found.lower, 3), round(found.upper, 3), found.count
    (2.0, -0.484, 4.484, 3)
    >>> mean_interval([1.0, 2.0, 3.0], possible=(0.0, 5.0)).lower
    0.0
    """
    if interval not in ("t", "bootstrap"):
        raise ConfigError(f"interval {interval!r} is not known; allowed: t, bootstrap")
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    count = len(known)
    if count < 2:
        return Mean(float(known[0]) if count else math.nan, math.nan, math.nan, count)
    mean = float(known.mean())
    if interval == "t":
        half = student(count - 1) * float(known.std(ddof=1)) / math.sqrt(count)
        return Mean(mean, max(mean - half, possible[0]), min(mean + half, possible[1]), count)
    drawn = np.random.default_rng(0).choice(known, (DRAWS, count)).mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Mean(mean, float(low), float(high), count)


def student(degrees: int) -> float:
    """Student's t that a 95 % interval reaches to.

    >>> round(student(2), 3)
    4.303
    """
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + LEVEL) / 2))


@dataclass(frozen=True)
class Line:
    """y = slope * x + intercept.

    Attributes:
        slope, intercept: least squares over all points.
        slope_lower, slope_upper, intercept_lower, intercept_upper: 95 % intervals; NaN where there is nothing to make them of.
        r_squared: share of the variance of y that the line explains; NaN where all y are equal.
        points, groups: how many points, and how many groups (seeds) they come from.
        interval_from: where the intervals come from, in words.
    """

    slope: float
    intercept: float
    slope_lower: float
    slope_upper: float
    intercept_lower: float
    intercept_upper: float
    r_squared: float
    points: int
    groups: int
    interval_from: str


def fit_line(x: np.ndarray, y: np.ndarray, groups: Sequence[object] | None = None) -> Line | None:
    """Least squares over all points. Points of one group are not independent, so intervals come from the spread between groups.

    With three groups or more that have a line of their own, the interval of each coefficient is Student's t over the groups' own
    coefficients, about their mean; with fewer it is that of the pooled residuals, which takes all points for independent.

    Args:
        x, y: (N,); points with an undefined value are left out.
        groups: (N,) the seed of each point; None: all points are independent.

    Returns:
        The line, or None with fewer than two different x.

    >>> line = fit_line(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]))
    >>> line.slope, line.intercept, line.r_squared
    (2.0, 1.0, 1.0)
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    of = np.zeros(len(x), dtype=int) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    known = np.isfinite(x) & np.isfinite(y)
    x, y, of = x[known], y[known], of[known]
    if len(np.unique(x)) < 2:
        return None
    slope, intercept = _least_squares(x, y)
    residual = y - slope * x - intercept
    total = float(((y - y.mean()) ** 2).sum())
    r_squared = 1 - float((residual**2).sum()) / total if total > 0 else math.nan
    own = [_least_squares(x[of == g], y[of == g]) for g in np.unique(of) if len(np.unique(x[of == g])) > 1]
    if len(own) >= 3:
        slopes, intercepts = (mean_interval(np.array(column)) for column in zip(*own, strict=True))
        limits = (slopes.lower, slopes.upper, intercepts.lower, intercepts.upper)
        source = f"the lines of {len(own)} seeds"
    elif len(x) > 2:
        half = student(len(x) - 2) * math.sqrt(float((residual**2).sum()) / (len(x) - 2))
        spread = float(((x - x.mean()) ** 2).sum())
        a, b = half / math.sqrt(spread), half * math.sqrt(1 / len(x) + x.mean() ** 2 / spread)
        limits = (slope - a, slope + a, intercept - b, intercept + b)
        source = "the residuals of one fit"
    else:
        limits, source = (math.nan,) * 4, "nothing: two points"
    return Line(slope, intercept, *limits, r_squared, len(x), len(np.unique(of)), source)


def _least_squares(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    return slope, float(y.mean() - slope * x.mean())


def quartiles(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the known values; NaN where there are none.

    >>> quartiles([1.0, 2.0, 3.0, float("nan")])
    (1.5, 2.0, 2.5)
    """
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if not len(known):
        return math.nan, math.nan, math.nan
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75]).tolist()
    return low, middle, high
