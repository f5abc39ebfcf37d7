"""Plain counts of a few hits are told apart by the law of the count: wrong claims are made in at most 5 %, and those that can be made are."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import scipy

from minima_volume.volume.gaussian.comparison import FEW_HITS, compare_masses
from minima_volume.volume.gaussian.mass import GaussianMass, plain_estimate, splitting_estimate
from minima_volume.volume.gaussian.splitting import Repeat

SAMPLES = 100_000
EXPECTED = [0.14, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
MOST = 40  # a count above has a chance below 1e-11 where 10 are expected


def exact(log_mass: float) -> GaussianMass:
    return GaussianMass(log_mass, (log_mass, log_mass), "splitting", standard_error=0.0)


def split(log_mass: float, s: float, random: np.random.Generator) -> GaussianMass:
    """Eight repeats of splitting whose logs scatter by s and whose mean is the mass."""
    logs = random.normal(log_mass - s**2 / 2, s, 8)
    return splitting_estimate([Repeat(0, float(log), (), 5, 1) for log in logs])


def outer(counts: list[int], told: Callable[[int], bool]) -> list[int]:
    """The counts that are told apart: the smallest ones and the largest ones."""
    few = list(itertools.takewhile(told, counts))
    rest = counts[len(few) :]
    return [*few, *rest[bisect_left(rest, True, key=told) :]]


def share(hits: int, expected: float) -> float:
    return float(scipy.stats.binom.pmf(hits, SAMPLES, expected / SAMPLES))


@pytest.mark.parametrize("expected", EXPECTED)
def test_wrong_claims_against_a_known_mass(expected: float) -> None:
    """Summed over all counts of 1 to 9: one hit where 0.14 is expected was a claim, which 13 % of such counts made."""
    sure = exact(math.log(expected / SAMPLES))
    wrong = {h for h in range(1, FEW_HITS) if compare_masses(plain_estimate(h, SAMPLES), sure).told_apart()}
    assert sum(share(h, expected) for h in wrong) <= 0.05
    # and it is the exact binomial test, at 2.5 % a side
    law = scipy.stats.binom(SAMPLES, expected / SAMPLES)
    assert wrong == {h for h in range(1, FEW_HITS) if min(law.sf(h - 1), law.cdf(h)) <= 0.025}


@cache
def claims(first: int, factor: int) -> list[int]:
    """The second counts, of so many times the samples, that are told apart from the first."""
    a = plain_estimate(first, SAMPLES)
    told = lambda second: compare_masses(a, plain_estimate(second, factor * SAMPLES)).told_apart()  # noqa: E731
    return outer(list(range(1, factor * MOST)), told)


@pytest.mark.parametrize("factor", [1, 4])
def test_wrong_claims_against_another_count(factor: int) -> None:
    """Both of one mass, the second of as many samples or four times as many."""
    for expected in EXPECTED:
        law = scipy.stats.binom(factor * SAMPLES, expected / SAMPLES)
        chances = {first: float(law.pmf(claims(first, factor)).sum()) for first in range(1, FEW_HITS)}
        assert sum(share(first, expected) * chance for first, chance in chances.items()) <= 0.05


@pytest.mark.parametrize(("expected", "s"), [(0.14, 0.3), (3.0, 0.1), (3.0, 0.9), (8.0, 0.3)])
def test_wrong_claims_against_splitting(expected: float, s: float) -> None:
    """60 estimates by splitting (of a fixed seed) beside every count of 1 to 9, by its chance; about 1 % are wrong."""
    random, truth = np.random.default_rng(3), math.log(expected / SAMPLES)
    counts = {h: plain_estimate(h, SAMPLES) for h in range(1, FEW_HITS)}
    wrong = []
    for _ in range(60):
        other = split(truth, s, random)
        told = outer(list(counts), lambda h, other=other: compare_masses(counts[h], other).told_apart())
        wrong.append(sum(share(h, expected) for h in told))
    assert np.mean(wrong) <= 0.05


@pytest.mark.parametrize(("first", "second"), [(1, 9), (2, 8), (9, 1), (3, 3), (1, 1), (5, 9)])
def test_two_counts_are_fishers_exact_test(first: int, second: int) -> None:
    """By the conditional law: of so many hits, each is one of the first with chance 1/2 (many samples, few hits)."""
    a, b = plain_estimate(first, SAMPLES), plain_estimate(second, SAMPLES)
    found = compare_masses(a, b)
    tail = scipy.stats.binom.sf(max(first, second) - 1, first + second, 0.5)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail), abs=3e-3)
    assert found.told_apart() == (found.sign != 0)


def test_the_interval_is_that_of_the_count() -> None:
    """Against a known mass: Clopper and Pearson's; the order of the two does not matter; a large lead is still found."""
    few, sure = plain_estimate(4, 2000), exact(-5.0)
    found, turned = compare_masses(few, sure), compare_masses(sure, few)
    low, high = few.interval
    assert low is not None and high is not None and turned.lower is not None and turned.upper is not None
    assert found.lower == pytest.approx(low + 5) and found.upper == pytest.approx(high + 5)
    assert (turned.upper, turned.lower) == (pytest.approx(-low - 5), pytest.approx(-high - 5))
    assert found.probability is not None and turned.probability == pytest.approx(1 - found.probability)
    assert compare_masses(few, plain_estimate(60, 2000)).told_apart()
    assert compare_masses(few, exact(-9.0)).told_apart() and compare_masses(few, few).p_value == 1


def test_all_of_a_few_samples_are_inside() -> None:
    """5 of 5: the upper limit is 0; nothing is claimed against a mass of 1, everything against a mass of e^-9."""
    every = plain_estimate(5, 5)
    against_one = compare_masses(every, exact(0.0))
    assert against_one.p_value == 1 and not against_one.told_apart()
    assert against_one.lower == pytest.approx(every.interval[0])
    assert compare_masses(every, exact(-9.0)).told_apart() and compare_masses(every, every).p_value == 1


@pytest.mark.parametrize("hits", [10, 11, 30, 100])
def test_many_hits_have_a_normal_error(hits: int) -> None:
    """From ten hits on the law is the normal one with the error of a log frequency."""
    many, sure = plain_estimate(hits, SAMPLES), exact(-9.0)
    found = compare_masses(many, sure)
    assert found.lower == pytest.approx(many.log_mass + 9 - scipy.stats.norm.ppf(0.975) * many.standard_error)
