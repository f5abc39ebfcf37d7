"""Is one Gaussian local volume larger than another? The difference of two log masses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy

from minima_volume.confidence import CONFIDENCE
from minima_volume.volume.claims import two_sided
from minima_volume.volume.comparison import UNKNOWN, Difference
from minima_volume.volume.gaussian.mass import GaussianMass

GRID = 1000  # quantiles of an error, where two are added
FEW_HITS = 10  # below, the log of a count is far from normal
MISS = (1 - CONFIDENCE) / 2


def compare_masses(a: GaussianMass, b: GaussianMass) -> Difference:
    """log mass of a minus that of b: difference, 95 % interval, probability that a is larger.

    The law is that of two independent Student errors (Behrens 1929, Fisher 1935). In a two-stage sample each error is Student's with the
    degrees of the first stage however many repeats were added; Welch's law takes more degrees and errs in more than 5 %.
    Of plain samples with fewer than 10 hits the law is that of the count, see `_with_few_hits`.
    Estimates of different minima are independent: each has random numbers of its own, see `Directions.seed_of`.
    """
    if a.log_mass is None or b.log_mass is None or a.standard_error is None or b.standard_error is None:
        return UNKNOWN
    difference = a.log_mass - b.log_mass
    if _few(a) or _few(b):
        return _with_few_hits(a, b, difference)
    large, small = (a, b) if a.standard_error >= b.standard_error else (b, a)
    assert large.standard_error is not None and small.standard_error is not None
    if large.standard_error == 0:
        probability = 0.5 + 0.5 * float(np.sign(difference))
        return Difference(difference, difference, difference, probability, two_sided(probability))
    law, other = (scipy.stats.t(mass.degrees or math.inf) for mass in (large, small))
    errors = small.standard_error * other.ppf((np.arange(GRID) + 0.5) / GRID)

    def below(x: float) -> float:
        return float(law.cdf((x - errors) / large.standard_error).mean())

    level = (1 + CONFIDENCE) / 2
    widest = large.standard_error * float(law.ppf(level)) + small.standard_error * float(other.ppf(level))
    half = float(scipy.optimize.brentq(lambda x: below(x) - level, 0, 1.01 * widest))
    probability = 0.5 + float(np.sign(difference)) * (below(abs(difference)) - 0.5)
    return Difference(difference, difference - half, difference + half, probability, two_sided(probability))


def _few(mass: GaussianMass) -> bool:
    return mass.method == "monte_carlo" and mass.hits is not None and mass.hits < FEW_HITS


def _with_few_hits(a: GaussianMass, b: GaussianMass, difference: float) -> Difference:
    """The same where a log mass is that of a few hits h of n plain samples.

    Its lower limits are quantiles of the law Beta(h, n - h + 1), its upper ones of Beta(h + 1, n - h), which is how Clopper and Pearson's
    are made; of other masses both are Student's. That a is larger is claimed where its lower law is above the upper law of b with
    a probability of 97.5 %. Against a known mass this is the exact binomial test, between two counts it is Fisher's exact test.

    Source: Fay, Proschan and Brittain 2015, "Combining one-sample confidence procedures for inference in the two-sample case".
    """
    lower, not_larger = _lower_limit(_law(a, upper=False), _law(b, upper=True))
    upper, not_smaller = _lower_limit(_law(b, upper=False), _law(a, upper=True))
    error = min(0.5, not_larger if difference > 0 else not_smaller if difference < 0 else 0.5)
    probability = 1 - error if difference > 0 else error
    return Difference(difference, lower, -upper, probability, two_sided(probability))


@dataclass(frozen=True)
class _Law:
    """Of a log mass, as far as its lower or its upper limits go.

    Attributes:
        error: the standard error.
        cdf, ppf: log masses -> probabilities, and back.
    """

    error: float
    cdf: Callable[[np.ndarray], np.ndarray]
    ppf: Callable[[np.ndarray], np.ndarray]


def _law(mass: GaussianMass, upper: bool) -> _Law:
    error, log_mass = mass.standard_error, mass.log_mass
    assert error is not None and log_mass is not None
    if not _few(mass):
        law = scipy.stats.t(mass.degrees or math.inf)
        if error > 0:
            return _Law(error, lambda x: law.cdf((x - log_mass) / error), lambda p: log_mass + error * law.ppf(p))
        return _Law(0.0, lambda x: np.where(x >= log_mass, 1.0, 0.0), lambda p: np.full_like(p, log_mass))
    assert mass.hits is not None and mass.num_samples is not None
    misses = mass.num_samples - mass.hits
    if upper and misses == 0:
        return _Law(error, lambda x: np.where(x >= 0, 1.0, 0.0), np.zeros_like)
    shape = mass.hits + upper, misses + (not upper)
    return _Law(
        error,
        lambda x: scipy.special.betainc(*shape, np.minimum(np.exp(x), 1.0)),
        lambda p: np.log(scipy.special.betaincinv(*shape, p)),
    )


def _lower_limit(first: _Law, second: _Law) -> tuple[float, float]:
    """The 2.5 % quantile of the difference of two independent laws, first minus second, and the probability that it is not above 0."""
    middles = (np.arange(GRID) + 0.5) / GRID
    wide, narrow = (first, second) if first.error >= second.error else (second, first)
    quantiles = narrow.ppf(middles)

    def below(x: float) -> float:
        if wide is first:
            return float(first.cdf(x + quantiles).mean())
        return float(1 - second.cdf(quantiles - x).mean())

    def apart(level: float) -> float:
        low, high = np.array([level]), np.array([1 - level])
        return float((first.ppf(low) - second.ppf(high))[0])

    # if neither is beyond its own limit the difference is not; more than a quarter is below the difference of medians
    limit = scipy.optimize.brentq(lambda x: below(x) - MISS, apart(0.4 * MISS) - 1e-9, apart(0.5) + 1e-9)
    return float(limit), below(0.0)
