"""Modular addition: the whole table of (a + b) mod p, one-hot."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from minima_volume.data.pool import Pool
from minima_volume.errors import ConfigError


def modulo_arithmetic(seed: int, needed: int, *, modulus: int = 97) -> Pool:
    """All pairs (a, b) with their sum mod p: a pool of p^2 samples; the test set is the whole table.

    Samples that a model was trained on are therefore among its test samples, as in the published experiments. A model that
    always answers 0 has a mean squared error of 1 / p.

    Args:
        seed: unused: the samples are fixed.
        needed: unused.
        modulus: p.

    Returns:
        float32 inputs (p^2, 2 p), the one-hot codes of a and b, and one-hot targets (p^2, p); row a p + b is the pair (a, b).

    >>> pool = modulo_arithmetic(0, 0, modulus=3)
    >>> pool.x_train[5].tolist(), pool.y_train[5].tolist()  # 1 + 2 = 0 mod 3
    ([0.0, 1.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0])
    """
    if modulus < 2:
        raise ConfigError(f"data.options.modulus: {modulus} is not allowed: it should be at least 2")
    a, b = torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus)).T
    x = torch.cat([F.one_hot(a, modulus), F.one_hot(b, modulus)], 1).float()
    y = F.one_hot((a + b) % modulus, modulus).float()
    return Pool(x, y, x, y, num_classes=modulus)
