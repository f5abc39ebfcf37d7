"""Means with intervals and straight lines: the few statistics that all tables over seeds share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from minima_volume.analysis.designs import described, independent
from minima_volume.confidence import half_width, mean_p_value, student

FEWEST = 3  # points of a line, and groups of points (seeds) that say how far lines spread
ROUNDING = 1e-12  # of the largest value: a spread up to which values are equal


@dataclass(frozen=True)
class Mean:
    """A mean over runs.

    Attributes:
        value: the mean; NaN if there are no values.
        lower, upper: its 95 % interval; NaN below two values, and where nothing says how far they spread.
        p_value: of a true mean of 0, two-sided; NaN likewise.
        count: the values it is made of.
    """

    value: float
    lower: float
    upper: float
    p_value: float
    count: int


def mean_interval(
    values: Sequence[float] | np.ndarray,
    possible: tuple[float, float] = (-math.inf, math.inf),
    *,
    seeds: Sequence[np.ndarray] = (),
    measured: np.ndarray | None = None,
) -> Mean:
    """The mean of a value per run with a 95 % interval; undefined (NaN) values are left out.

    Of independent values Student's t: mean +- t * s / sqrt(k) with k - 1 degrees of freedom, exact for normal values. (A bootstrap over
    three to ten seeds misses the mean in 25 to 10 % of the cases instead of 5 %.)

    Runs that share a seed are not independent: see `designs.independent` for which seeds count. What one source adds to the squared standard
    error is V = var(means of its values) * sum w^2, w the share of runs of each value, which is var / K where all have as many runs.
    Two crossed sources have Howe's interval (`confidence.half_width`); what only a pair of seeds has in common is counted twice, so it is
    cautious.

    Equal values show no spread; they do not show that there is none. So no V is below the mean variance of the measurements over the number
    of runs, where that is known, and without any spread to judge by there is neither an interval nor a p-value.

    Args:
        values: (N,) one per run.
        possible: values beyond which none can be: the interval ends there.
        seeds: (N,) labels for each source that the values depend on, such as the model seed and the data seed; none: all are independent.
        measured: (N,) the variance of each value's own measurement; None or NaN where it is not known.

    >>> found = mean_interval([1.0, 2.0, 3.0])
    >>> found.value, round(found.lower, 3), round(found.upper, 3), found.count
    (2.0, -0.484, 4.484, 3)
    >>> mean_interval([1.0, 2.0, 3.0], possible=(0.0, 5.0)).lower
    0.0
    >>> mean_interval([1.0, 1.0]).p_value
    nan
    """
    raw = np.asarray(values, dtype=float)
    which = np.isfinite(raw)
    known = raw[which]
    count = len(known)
    mean = float(known.mean()) if count else math.nan
    least = float(np.mean(np.asarray(measured, dtype=float)[which])) / count if measured is not None and count else 0.0
    sources = _sources(known, [np.asarray(labels)[which] for labels in seeds], 0.0 if math.isnan(least) else least)
    if math.sqrt(sum(error**2 for error, _ in sources)) <= ROUNDING * float(np.abs(known).max(initial=0.0)):
        return Mean(mean, math.nan, math.nan, math.nan, count)
    if len(sources) == 1:
        error, groups = sources[0]
        half, p_value = student(groups - 1) * error, _t_test(mean, error, groups)
    else:
        crossed = [(error**2, groups) for error, groups in sources]
        half, p_value = half_width(crossed), mean_p_value(mean, crossed)
    return Mean(mean, max(mean - half, possible[0]), min(mean + half, possible[1]), p_value, count)


def _sources(values: np.ndarray, seeds: Sequence[np.ndarray], least: float) -> list[tuple[float, int]]:
    """Standard error of the mean from each source, and how many of its values it is made of; `least`: its smallest square."""
    count = len(values)
    if count < 2:
        return []
    found = []
    for labels in independent(seeds) or [np.arange(count)]:
        sizes = np.bincount(labels)
        if len(sizes) == count:
            error = float(values.std(ddof=1)) / math.sqrt(count)
        else:
            means = np.bincount(labels, weights=values) / sizes
            error = float(means.std(ddof=1)) * math.sqrt(float((sizes**2).sum())) / count
        found.append((max(error, math.sqrt(least)), len(sizes)))
    return found


def _t_test(mean: float, error: float, count: int) -> float:
    """Two-sided p-value that the mean of independent normal values is 0."""
    from scipy.special import stdtr

    return 2 * float(stdtr(count - 1, -abs(mean) / error))


@dataclass(frozen=True)
class Line:
    """y = slope * x + intercept.

    Attributes:
        slope, intercept: least squares over independent points; of groups, the means over their own lines, which is the same where all
            groups have the same x.
        slope_lower, slope_upper, intercept_lower, intercept_upper: 95 % intervals; NaN where nothing says how far groups spread.
        r_squared: share of the variance of y that the line explains; NaN where all y are equal, below 0 where the mean of y is closer.
        points, groups: how many points it is made of, and how many groups (seeds) these come from.
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


def fit_line(
    x: np.ndarray,
    y: np.ndarray,
    groups: Sequence[object] | None = None,
    *,
    seeds: Mapping[str, np.ndarray] | None = None,
    measured: np.ndarray | None = None,
) -> Line | None:
    """Least squares, where there are enough points to say how far off the line may be.

    Points of one group are not independent: each coefficient is the mean over the groups' own lines, with the interval of `mean_interval`.
    Groups of fewer than three different x have no line and are left out. (One line through all points would take the differences between
    groups for a slope where points are missing.) A single set of independent points has the interval of its residuals.

    Args:
        x, y: (N,); points with an undefined value are left out.
        groups: (N,) the run of each point; None: all points are independent.
        seeds: name -> (N,) the seeds that each point's run was made with; none: all groups are independent.
        measured: (N,) the variance of each y's own measurement; None where it is not known. Measurements are independent.

    Returns:
        The line; None with fewer than three groups of three different x each, or of fewer than three seeds, or fewer than three different x
        of independent points: through two points there is always a line, and between two seeds there is hardly a spread.

    >>> line = fit_line(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]))
    >>> line.slope, line.intercept, line.r_squared
    (2.0, 1.0, 1.0)
    >>> fit_line(np.array([0.0, 1.0]), np.array([1.0, 3.0])) is None
    True
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    of = np.zeros(len(x), dtype=int) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    known = np.isfinite(x) & np.isfinite(y)
    enough = [g for g in np.unique(of[known]) if len(np.unique(x[known & (of == g)])) >= FEWEST]
    if len(enough) < (1 if groups is None else FEWEST):
        return None
    limits: tuple[float, float, float, float]
    if groups is not None:
        known &= np.isin(of, enough)
        first = [int(np.argmax(of == g)) for g in enough]
        made = {name: np.asarray(labels)[first] for name, labels in (seeds or {}).items()}
        sources = independent(list(made.values()))
        if any(labels.max() + 1 < FEWEST for labels in sources):
            return None
        own = [_least_squares(x[known & (of == g)], y[known & (of == g)]) for g in enough]
        noise = np.full(len(x), np.nan) if measured is None else np.asarray(measured, dtype=float)
        errors = [_line_variances(x[known & (of == g)], noise[known & (of == g)]) for g in enough]
        slopes, intercepts = (
            mean_interval(np.array(values), seeds=sources, measured=np.array(variances))
            for values, variances in zip(zip(*own, strict=True), zip(*errors, strict=True), strict=True)
        )
        slope, intercept = slopes.value, intercepts.value
        limits = (slopes.lower, slopes.upper, intercepts.lower, intercepts.upper)
        source = f"the lines of {described(made, len(own))}"
    x, y, of = x[known], y[known], of[known]
    if groups is None:
        slope, intercept = _least_squares(x, y)
    residual = y - slope * x - intercept
    total = float(((y - y.mean()) ** 2).sum())
    r_squared = 1 - float((residual**2).sum()) / total if total > 0 else math.nan
    if groups is None:
        half = student(len(x) - 2) * math.sqrt(float((residual**2).sum()) / (len(x) - 2))
        spread = float(((x - x.mean()) ** 2).sum())
        a, b = half / math.sqrt(spread), half * math.sqrt(1 / len(x) + x.mean() ** 2 / spread)
        limits = (slope - a, slope + a, intercept - b, intercept + b)
        source = "the residuals of one fit"
    return Line(slope, intercept, *limits, r_squared, len(x), len(np.unique(of)), source)


def _line_variances(x: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """Of slope and intercept of a least-squares line through independent measurements with these variances."""
    centred = x - x.mean()
    slopes = centred / float(centred @ centred)  # weights of y in the slope
    return float(slopes**2 @ measured), float((1 / len(x) - x.mean() * slopes) ** 2 @ measured)


def _least_squares(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    return slope, float(y.mean() - slope * x.mean())


def quartiles(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the known values; NaN if there are none.

    >>> quartiles([1.0, 2.0, 3.0, float("nan")])
    (1.5, 2.0, 2.5)
    """
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if not len(known):
        return math.nan, math.nan, math.nan
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75]).tolist()
    return low, middle, high
