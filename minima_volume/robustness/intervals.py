"""A mean over training seeds, draws of noise and test images that are crossed with each other, and its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from minima_volume.confidence import half_width, mean_p_value
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
        p_value: of a true mean of 0, two-sided, of this mean alone; None where nothing varies.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    variances: Mapping[str, float]
    p_value: float | None

    @property
    def resolved(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{fixed(self.mean, 4, '+')} (95 % interval {fixed(self.low, 4, '+')} to {fixed(self.high, 4, '+')})"


def crossed_mean(values: np.ndarray) -> Estimate:
    """The mean of values that depend on three crossed random sources.

    The squared standard error is the sum over the sources of V = var(marginal means) / K, K values of that source. What two sources do
    together is then counted twice, so it is cautious. The interval is Howe's, see `confidence.half_width`.

    Args:
        values: (seeds, draws, images), for example the difference of two networks' correct answers.

    >>> estimate = crossed_mean(np.array([[[0.0, 1.0]], [[2.0, 3.0]]]))
    >>> estimate.mean, sorted(estimate.variances)
    (1.5, ['images', 'seeds'])
    """
    variances, sources = {}, []
    for axis, source in enumerate(SOURCES):
        count = values.shape[axis]
        if count > 1:
            others = tuple(other for other in range(3) if other != axis)
            variances[source] = float(values.mean(axis=others, dtype=np.float64).var(ddof=1)) / count
            sources.append((variances[source], count))
    mean, half = float(values.mean(dtype=np.float64)), half_width(sources)
    error = math.sqrt(sum(variances.values()))
    p_value = mean_p_value(mean, sources) if error else None
    return Estimate(mean, mean - half, mean + half, error, variances, p_value)
