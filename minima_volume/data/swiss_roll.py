"""Two interlocking spirals in the plane, labels 0 and 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minima_volume.data.pool import Pool
from minima_volume.seeding import generator

SPARE_PER_ARM = 1000
TEST_PER_ARM = 2000


def swiss_roll(
    seed: int, needed: int, *, noise: float = 0.3, turns: float = 1.7, test_per_arm: int = TEST_PER_ARM
) -> Pool:
    """Arm 1 is (-1.5 n cos n, 1.5 n sin n) + noise with n = sqrt(U(0, 1)) * turns * 2 pi; arm 2 is its negative.

    Args:
        seed: the data seed; the test set comes from seed + 1.
        needed: training samples that will be drawn; each arm has `needed` + 1,000 to draw from.
        noise: standard deviation per coordinate.
        turns: revolutions of the spiral.
        test_per_arm: test points of each arm.

    Returns:
        float32 inputs (N, 2) and labels (N,) 0.0 or 1.0.
    """
    x_train, y_train = _spirals(seed, needed + SPARE_PER_ARM, noise, turns)
    x_test, y_test = _spirals(seed + 1, test_per_arm, noise, turns)
    return Pool(x_train, y_train, x_test, y_test, num_classes=1)


def _spirals(seed: int, per_arm: int, noise: float, turns: float) -> tuple[Tensor, Tensor]:
    random = generator(seed, "swiss_roll")
    arms = []
    for sign in (1.0, -1.0):
        n = torch.rand(per_arm, generator=random).sqrt() * turns * 2 * math.pi
        curve = torch.stack([-1.5 * n * n.cos(), 1.5 * n * n.sin()], 1)
        arms.append(sign * (curve + noise * torch.randn(per_arm, 2, generator=random)))
    return torch.cat(arms), torch.cat([torch.zeros(per_arm), torch.ones(per_arm)])
