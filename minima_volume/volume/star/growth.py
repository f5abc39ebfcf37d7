"""How the published number grows with the number of directions: the test that it fails in many dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ORDERS = 100


@dataclass(frozen=True)
class Growth:
    """log mean r^n from 1, 2, 4, ... directions out of D, averaged over random subsets of them.

    Attributes:
        num_directions: (S,) sizes of the subsets, powers of two and D.
        values: (S,) log mean r^n; the last is the estimate from all directions.
        effective_sample_sizes: (S,).
        largest: (S,) n log r_max - log d: what is left when the largest direction stands alone.
    """

    num_directions: list[int]
    values: list[float]
    effective_sample_sizes: list[float]
    largest: list[float]


def growth(logs: np.ndarray, seed: int = 0) -> Growth:
    """Estimate again from fewer directions.

    A trustworthy estimate does not depend on their number; one that rests on a single direction grows with every doubling. Subsets are
    the first d of 100 random orders of the directions, since the first d in stored order jump at each new largest radius.

    Args:
        logs: (D,) n log r_i.
        seed: of the orders.

    >>> growth(np.log([3.0, 3.0, 3.0])).num_directions
    [1, 2, 3]
    """
    count = len(logs)
    sizes = [2**i for i in range(count.bit_length()) if 2**i < count] + [count]
    orders = np.random.default_rng(seed).permuted(np.tile(logs, (ORDERS, 1)), axis=1)
    at = np.array(sizes) - 1
    total = np.logaddexp.accumulate(orders, axis=1)[:, at]
    square = np.logaddexp.accumulate(2 * orders, axis=1)[:, at]
    top = np.maximum.accumulate(orders, axis=1)[:, at]
    return Growth(
        sizes,
        (total - np.log(sizes)).mean(axis=0).tolist(),
        np.exp(2 * total - square).mean(axis=0).tolist(),
        (top - np.log(sizes)).mean(axis=0).tolist(),
    )
