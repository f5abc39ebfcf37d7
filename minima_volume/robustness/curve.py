"""One network's accuracy as a curve over alpha, in three numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from minima_volume.robustness.evaluate import Sweep

LOST = 0.01  # of accuracy


@dataclass(frozen=True)
class Curve:
    """What the accuracy of a network does as alpha grows.

    Attributes:
        alpha_50: noise under which half of the draws still reach the accuracy asked for: where the median over draws crosses it,
            alphas in between by linear interpolation. None if more than half reach it at every alpha; 0 if none does without noise.
        area: mean accuracy over alphas from 0 to the largest (trapezoids).
        alpha_lost: noise at which the mean accuracy is 0.01 below that without noise; None if it never is.
        largest: the largest alpha measured, below which None holds.
    """

    alpha_50: float | None
    area: float
    alpha_lost: float | None
    largest: float


def curve_of(sweep: Sweep, accuracy: float) -> Curve:
    """The three numbers of one network.

    Args:
        sweep: of the network.
        accuracy: that alpha_50 asks for.
    """
    alphas, found = sweep.alphas, sweep.accuracy
    mean = found.mean(1)
    area = float(scipy.integrate.trapezoid(mean, alphas) / (alphas[-1] - alphas[0]))
    half = first_below(alphas, np.median(found, axis=1), accuracy)
    return Curve(half, area, first_below(alphas, mean, float(mean[0]) - LOST), float(alphas[-1]))


def first_below(alphas: np.ndarray, values: np.ndarray, level: float) -> float | None:
    """The first alpha at which a piecewise linear curve falls below a level; None if it never does.

    >>> first_below(np.array([0.0, 1.0]), np.array([1.0, 0.0]), 0.75), first_below(np.array([0.0, 1.0]), np.array([1.0, 0.9]), 0.5)
    (0.25, None)
    """
    below = np.flatnonzero(values < level - 1e-12)
    if not len(below):
        return None
    k = int(below[0])
    if k == 0:
        return float(alphas[0])
    share = (values[k - 1] - level) / (values[k - 1] - values[k])
    return float(alphas[k - 1] + share * (alphas[k] - alphas[k - 1]))
