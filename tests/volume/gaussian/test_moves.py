"""Proposals: the law of each, and what particles of a large network share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from chi_square import ChiSquare
from scipy import stats

from minima_volume.volume.gaussian.moves import SHARED_FROM, SHARING, propose
from minima_volume.volume.gaussian.splitting import Splitting, splitting

STEP = 0.6


def noise(dim: int, count: int) -> torch.Tensor:
    """xi of each of `count` proposals, (count, dim)."""
    event = ChiSquare.of(-3.0, dim=dim)
    z, out = torch.linspace(-2, 2, count * dim, dtype=torch.float64).view(count, dim), event.empty(count)
    propose(event, z, STEP, event.generator(0), out)
    return (out - math.sqrt(1 - STEP**2) * z) / STEP


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 10, 12])
@pytest.mark.parametrize("dim", [SHARED_FROM - 1, SHARED_FROM, SHARED_FROM + 3])
def test_each_particle_moves_by_standard_normals(dim: int, count: int) -> None:
    """Kolmogorov and Smirnov's test of each: a false alarm in 20,000 for all cases together."""
    for row in noise(dim, count).numpy():
        assert stats.kstest(row, "norm").pvalue > 1e-6


@pytest.mark.parametrize("count", [1, 2, 5, 10, 12])
def test_in_many_dimensions_four_particles_share_their_numbers(count: int) -> None:
    """No two of them at the same coordinate, and with few dimensions none at all."""
    shared, own = noise(SHARED_FROM, count), noise(SHARED_FROM - 1, count)
    rows = -(-count // SHARING)
    assert len(np.unique(shared.numpy().round(9))) == pytest.approx(rows * SHARED_FROM, rel=1e-3)
    assert len(np.unique(own.numpy().round(9))) == pytest.approx(own.numel(), rel=1e-3)
    for i in range(count):
        for j in range(i):
            correlation = float(torch.corrcoef(shared[[i, j]])[0, 1])
            assert abs(correlation) < 6 / math.sqrt(SHARED_FROM)
    for i in range(rows, count):
        assert torch.allclose(shared[i], shared[i % rows].roll(i // rows * SHARED_FROM // SHARING), atol=1e-12)


@pytest.mark.parametrize("k", [20, SHARED_FROM])
def test_the_mean_mass_is_the_truth_where_numbers_are_shared(k: int) -> None:
    """Also where every dimension matters, so that the particles that share numbers depend on each other most."""
    event = ChiSquare.of(-4.0, k=k, dim=SHARED_FROM)
    repeats = splitting(event, range(150), Splitting(num_particles=32, num_moves=3))
    ratio = np.exp([repeat.log_mass + 4.0 for repeat in repeats])
    error = ratio.std(ddof=1) / math.sqrt(len(ratio))
    print(f"{ratio.mean():.3f} +- {error:.3f}")
    assert error < 0.15 and abs(ratio.mean() - 1) < 5 * error
