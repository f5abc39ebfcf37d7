"""Means with intervals and straight lines over seeds, against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from minima_volume.analysis.statistics import fit_line, mean_interval, quartiles


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
    assert mean_interval([1.0, 1.0]).p_value == 0 and mean_interval([0.0, 0.0]).p_value == 1
    assert math.isnan(mean_interval([1.0]).p_value)


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
    assert line.slope_lower == pytest.approx(1.0) and line.slope_upper == pytest.approx(1.0)
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
