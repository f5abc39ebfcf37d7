"""scikit-learn's 1,797 real 8 x 8 handwritten digits: real data that needs no download."""

from __future__ import annotations

import torch
from torch import Tensor

from minima_volume.data.pool import Pool

TEST_SIZE = 497
SPLIT_SEED = 0
LEVELS = 16  # the largest value of a pixel
MEAN, DEVIATION = 0.3053, 0.3760  # of all pixels, scaled to 0..1


def pixels(x: Tensor) -> Tensor:
    """The pixels, multiples of 1/16 from 0 to 1, that standardised inputs were made of."""
    return (x * DEVIATION + MEAN).mul_(LEVELS).round_().div_(LEVELS)


def digits(seed: int, needed: int, *, test_size: int = TEST_SIZE) -> Pool:
    """The digits, pixels scaled from 0..16 to 0..1 and standardised; one fixed split into training pool and test set.

    The test set is the same for every data seed, as MNIST's is.

    Args:
        seed: unused: the samples are fixed, the drawing of base and additional samples uses the seed.
        needed: unused.
        test_size: samples held out, of 1,797.

    Returns:
        float32 inputs (N, 1, 8, 8) and integer labels.
    """
    from sklearn.datasets import load_digits  # here, because it takes seconds

    bunch = load_digits()
    x = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / LEVELS
    x = (x - MEAN) / DEVIATION
    y = torch.tensor(bunch.target, dtype=torch.int64)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(SPLIT_SEED))
    test, train = order[:test_size], order[test_size:]
    return Pool(x[train], y[train], x[test], y[test], num_classes=10)
