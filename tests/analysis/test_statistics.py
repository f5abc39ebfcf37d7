"""Means with intervals and straight lines over seeds, against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from minima_volume.analysis.statistics import fit_line, mean_interval, quartiles
from minima_volume.volume.gaussian.mass import NORMAL, plain_estimate


def test_t_interval_is_that_of_scipy():
    """And undefined values are left out; one value has no interval, none has no mean."""
    values = np.random.default_rng(1).normal(3, 2, 7)
    found = mean_interval([*values, math.nan])
    low, high = scipy.stats.t.interval(0.95, 6, loc=values.mean(), scale=scipy.stats.sem(values))
    assert (found.value, found.lower, found.upper, found.count) == pytest.approx((values.mean(), low, high, 7))
    one = mean_interval([2.0])
    assert one.value == 2.0 and math.isnan(one.lower) and one.count == 1
    assert math.isnan(mean_interval([]).value)


def test_p_values_are_those_of_the_t_test():
    """Of a mean of 0, two-sided; none without a spread to judge it by."""
    values = np.random.default_rng(2).normal(0.5, 1, 6)
    assert mean_interval(values).p_value == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue)
    assert math.isnan(mean_interval([1.0]).p_value)
    for equal in ([1.0, 1.0], [0.0, 0.0], [0.1] * 3):
        found = mean_interval(equal)
        assert found.value == pytest.approx(equal[0])
        assert all(math.isnan(value) for value in (found.lower, found.upper, found.p_value))


def test_an_interval_is_no_narrower_than_measurements_allow():
    """Two seeds with 2,000 and 1,999 hits of 2,000 each: the difference is 0.0005 in both, and nothing is clear."""
    first, second = plain_estimate(2000, 2000), plain_estimate(1999, 2000)
    measured = sum(((mass.interval[1] - mass.interval[0]) / 2 / NORMAL) ** 2 for mass in (first, second))
    found = mean_interval([first.log_mass - second.log_mass] * 2, measured=np.full(2, measured))
    assert found.upper - found.value == pytest.approx(scipy.stats.t.ppf(0.975, 1) * math.sqrt(measured / 2))
    assert found.lower < 0 < found.upper and found.p_value > 0.5
    values = np.random.default_rng(2).normal(0.5, 1, 6)  # measured well: not a bit of it changes
    assert mean_interval(values, measured=np.full(6, 1e-3)) == mean_interval(values)


@pytest.mark.parametrize("misses", [0.3, 1, 3, 10])
def test_equal_masses_near_one_are_rarely_called_different(misses: float):
    """Two seeds, 2,000 plain samples each of equal masses: at most 5 % of 1,000 studies claim a difference (11 % did without the errors)."""
    random, claims, cases = np.random.default_rng(7), 0, {}
    for hits in 2000 - random.binomial(2000, misses / 2000, (1000, 2, 2)):
        cases |= {count: plain_estimate(int(count), 2000) for count in hits.flat if count not in cases}
        masses = [[cases[count] for count in row] for row in hits]
        errors = [sum(((m.interval[1] - m.interval[0]) / 2 / NORMAL) ** 2 for m in row) for row in masses]
        found = mean_interval([a.log_mass - b.log_mass for a, b in masses], measured=np.array(errors))
        claims += found.p_value <= 0.05
    assert claims <= 50


def test_line_of_one_group_is_that_of_scipy():
    """Slope, intercept, R^2 and the intervals of the residuals."""
    random = np.random.default_rng(3)
    x = random.uniform(0, 5, 12)
    y = 2 * x - 1 + random.normal(0, 0.5, 12)
    line, oracle = fit_line(x, y), scipy.stats.linregress(x, y)
    t = scipy.stats.t.ppf(0.975, 10)
    assert (line.slope, line.intercept, line.r_squared) == pytest.approx(
        (oracle.slope, oracle.intercept, oracle.rvalue**2)
    )
    assert line.slope_upper - line.slope == pytest.approx(t * oracle.stderr)
    assert line.intercept - line.intercept_lower == pytest.approx(t * oracle.intercept_stderr)
    assert line.interval_from == "the residuals of one fit" and line.points == 12


def test_line_of_several_groups_is_judged_by_their_own_lines():
    """Groups with slopes 1, 2, 3 exactly: the interval is t over these, however many points each has."""
    x = np.tile(np.arange(50.0), 3)
    groups = np.repeat([0, 1, 2], 50)
    y = (groups + 1) * x
    line, slopes = fit_line(x, y, groups.tolist()), mean_interval([1.0, 2.0, 3.0])
    assert line.slope == pytest.approx(2.0)
    assert (line.slope_lower, line.slope_upper) == pytest.approx((slopes.lower, slopes.upper))
    assert line.groups == 3 and line.interval_from == "the lines of 3 seeds"
    assert fit_line(np.ones(4), np.arange(4.0)) is None


def test_missing_points_do_not_turn_differences_between_seeds_into_a_slope():
    """Seeds with slope 1 each and other intercepts, each measured elsewhere: one line through their nine points has slope 6."""
    x = np.concatenate([np.arange(3.0) + shift for shift in range(3)] + [[7.0, 9.0]])
    groups = np.repeat([0, 1, 2, 3], [3, 3, 3, 2])  # the last has no line of its own
    y = x + 10.0 * groups
    assert np.polyfit(x[:9], y[:9], 1)[0] == pytest.approx(6.0)
    line = fit_line(x, y, groups.tolist())
    assert (line.slope, line.intercept) == pytest.approx((1.0, 10.0))
    assert math.isnan(line.slope_lower) and math.isnan(line.slope_upper)  # equal slopes show no spread
    known = fit_line(x, y, groups.tolist(), measured=np.full(len(x), 0.01))
    error = math.sqrt(0.01 / 2 / 3)  # of the mean of three slopes, each through x = 0, 1, 2
    assert known.slope_upper - known.slope == pytest.approx(scipy.stats.t.ppf(0.975, 2) * error)
    assert line.points == 9 and line.groups == 3
    total = float(((y[:9] - y[:9].mean()) ** 2).sum())
    assert line.r_squared == pytest.approx(1 - 600 / total)


def test_there_is_no_line_through_two():
    """Neither through two points, nor two x, nor the points of two seeds, nor three seeds of two landscapes each."""
    x, y = np.tile([0.0, 1.0, 2.0], 3), np.random.default_rng(0).normal(size=9)
    seeds = np.repeat([0, 1, 2], 3).tolist()
    assert fit_line(x, y, seeds) is not None and fit_line(x[:3], y[:3]) is not None
    assert fit_line(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, math.nan])) is None
    assert fit_line(np.array([0.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0])) is None
    assert fit_line(x[:6], y[:6], seeds[:6]) is None and fit_line(x[:3], y[:3], seeds[:3]) is None
    assert fit_line(x[x < 2], y[x < 2], np.array(seeds)[x < 2].tolist()) is None


def test_quartiles_of_nothing():
    assert all(math.isnan(value) for value in quartiles([math.nan]))
