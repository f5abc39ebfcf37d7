"""Is one Gaussian local volume larger than another? The difference of two log masses."""

from __future__ import annotations

import math

import numpy as np
import scipy

from minima_volume.confidence import CONFIDENCE
from minima_volume.volume.claims import two_sided
from minima_volume.volume.comparison import UNKNOWN, Difference
from minima_volume.volume.gaussian.mass import GaussianMass

GRID = 1000  # quantiles of an error, where two are added


def compare_masses(a: GaussianMass, b: GaussianMass) -> Difference:
    """log mass of a minus that of b: difference, 95 % interval, probability that a is larger.

    The law is that of two independent Student errors (Behrens 1929, Fisher 1935). In a two-stage sample each error is Student's with the
    degrees of the first stage however many repeats were added; Welch's law takes more degrees and errs in more than 5 %.
    Estimates of different minima are independent: each has random numbers of its own, see `Directions.seed_of`.
    """
    if a.log_mass is None or b.log_mass is None or a.standard_error is None or b.standard_error is None:
        return UNKNOWN
    difference = a.log_mass - b.log_mass
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
