"""A mean over training seeds, draws of noise and test images that are crossed with each other, and its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy

from minima_volume.confidence import CONFIDENCE
from minima_volume.numerals import fixed

SOURCES = ("seeds", "draws", "images")


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval.

    Attributes:
        mean: over everything.
        low, high: limits of the interval.
        standard_error: of the mean.
        variances: source -> what it adds to the squared standard error; a source with one value adds nothing and is left out.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    variances: Mapping[str, float]

    @property
    def resolved(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{fixed(self.mean, 4, '+')} (95 % interval {fixed(self.low, 4, '+')} to {fixed(self.high, 4, '+')})"


def crossed_mean(values: np.ndarray) -> Estimate:
    """The mean of values that depend on three crossed random sources.

    The squared standard error is the sum over the sources of V = var(marginal means) / K, K values of that source. What two sources do
    together is then counted twice, so it is cautious. Half of the interval is sqrt(sum t^2 V), each source with the quantile t of its own
    K - 1 degrees of freedom, so that three seeds weigh as three and ten thousand images as many.

    Args:
        values: (seeds, draws, images), for example the difference of two networks' correct answers.

    Source: Howe 1974, "Approximate confidence limits on the mean of X + Y where X and Y are two tabled independent random variables".

    >>> estimate = crossed_mean(np.array([[[0.0, 1.0]], [[2.0, 3.0]]]))
    >>> estimate.mean, sorted(estimate.variances)
    (1.5, ['images', 'seeds'])
    """
    variances, squared = {}, 0.0
    for axis, source in enumerate(SOURCES):
        count = values.shape[axis]
        if count > 1:
            others = tuple(other for other in range(3) if other != axis)
            variances[source] = float(values.mean(axis=others, dtype=np.float64).var(ddof=1)) / count
            squared += variances[source] * float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) ** 2
    mean, half = float(values.mean(dtype=np.float64)), math.sqrt(squared)
    return Estimate(mean, mean - half, mean + half, math.sqrt(sum(variances.values())), variances)
