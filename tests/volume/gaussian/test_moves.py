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


def noise(dim: int, count: int, seed: int = 0) -> np.ndarray:
    """xi of each of `count` proposals, (count, dim)."""
    event = ChiSquare.of(-3.0, dim=dim)
    z, out = torch.linspace(-2, 2, count * dim, dtype=torch.float64).view(count, dim), event.empty(count)
    propose(event, z, STEP, event.generator(seed), out, np.random.default_rng(seed))
    return ((out - math.sqrt(1 - STEP**2) * z) / STEP).numpy()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 10, 12])
@pytest.mark.parametrize("dim", [SHARED_FROM - 1, SHARED_FROM, SHARED_FROM + 3])
def test_each_particle_moves_by_standard_normals(dim: int, count: int) -> None:
    """Kolmogorov and Smirnov's test of each: a false alarm in 20,000 for all cases together."""
    for row in noise(dim, count):
        assert stats.kstest(row, "norm").pvalue > 1e-6


@pytest.mark.parametrize("count", [1, 2, 5, 10, 12])
def test_in_many_dimensions_four_particles_share_a_direction(count: int) -> None:
    """But for places, signs and lengths of their own; below, nothing is shared."""
    shared, own = noise(SHARED_FROM, count), noise(SHARED_FROM - 1, count)
    rows = -(-count // SHARING)
    for i in range(count):
        for j in range(i):
            moved = (i - j) % rows == 0
            assert (
                likeness(shared[i], shared[j]) == pytest.approx(1, abs=1e-9)
                if moved
                else likeness(shared[i], shared[j]) < 0.15
            )
            assert likeness(own[i], own[j]) < 0.15
            assert abs(np.corrcoef(shared[i], shared[j])[0, 1]) < 6 / math.sqrt(SHARED_FROM)
    assert len(np.unique(np.square(shared).sum(1).round(6))) == count


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """The largest cosine of squares of a with those of b moved on by any number of places."""
    a, b = a**2 - np.square(a).mean(), b**2 - np.square(b).mean()
    products = np.fft.irfft(np.fft.rfft(a) * np.conj(np.fft.rfft(b)), len(a))
    return float(products.max() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("period", [1, 8, 1024])
def test_squares_of_two_are_uncorrelated(period: int) -> None:
    """Sums over all coordinates, over every eighth, over every 1,024th: 600 draws, six standard errors."""
    squares = np.array([np.square(noise(SHARED_FROM, 4, seed)[:, ::period]).sum(1) for seed in range(600)])
    assert stats.kstest(squares.ravel(), "chi2", (SHARED_FROM // period,)).pvalue > 1e-6
    for i in range(4):
        for j in range(i):
            assert abs(np.corrcoef(squares[:, i], squares[:, j])[0, 1]) < 6 / math.sqrt(600)


@pytest.mark.parametrize("period", [1, 8, 1024])
def test_sums_of_two_are_uncorrelated(period: int) -> None:
    """A sum of all coordinates is the same wherever they have been moved on to; signs tell them apart."""
    sums = np.array([noise(SHARED_FROM, 4, seed)[:, ::period].sum(1) for seed in range(600)])
    assert stats.kstest(sums.ravel(), "norm", (0, math.sqrt(SHARED_FROM // period))).pvalue > 1e-6
    for found in (sums, sums**2):
        for i in range(4):
            for j in range(i):
                assert abs(np.corrcoef(found[:, i], found[:, j])[0, 1]) < 6 / math.sqrt(600)


class HalfSpace(ChiSquare):
    """The sum of all coordinates, in units of its standard deviation, is at most the threshold."""

    def scores(self, z: torch.Tensor) -> np.ndarray:
        return (z.sum(1) / math.sqrt(self.dim)).numpy()


def test_a_sum_spreads_as_with_numbers_of_its_own() -> None:
    """log P = -6.9 of a half-space; the spread was twice that of one dimension less."""
    spreads = []
    for dim in (SHARED_FROM - 1, SHARED_FROM):
        event = HalfSpace(float(stats.norm.ppf(1e-3)), dim=dim)
        logs = np.array([r.log_mass for r in splitting(event, range(80), Splitting(num_particles=64, num_moves=2))])
        error = np.exp(logs).std(ddof=1) / math.sqrt(len(logs))
        assert abs(np.exp(logs).mean() - 1e-3) < 5 * error
        spreads.append(logs.std(ddof=1))
    print(spreads)
    assert spreads[1] < 1.4 * spreads[0]


@pytest.mark.parametrize("dim", [SHARED_FROM - 1, SHARED_FROM])
def test_first_particles_are_plain_samples(dim: int) -> None:
    """Hits among them are binomial: of 100 with probability 0.1 the variance is 9, here within five standard errors of 120 repeats."""
    event = HalfSpace(float(stats.norm.ppf(0.1)), dim=dim)
    hits = [repeat.first_hits for repeat in splitting(event, range(120), Splitting(num_particles=100, num_moves=1))]
    assert abs(np.mean(hits) - 10) < 5 * 3 / math.sqrt(120)
    assert abs(np.var(hits, ddof=1) - 9) < 5 * 9 * math.sqrt(2 / 119)


@pytest.mark.parametrize("k", [20, SHARED_FROM])
def test_the_mean_mass_is_the_truth_where_directions_are_shared(k: int) -> None:
    """Also where every dimension matters; repeats spread as they do with numbers of their own, by 0.6."""
    event = ChiSquare.of(-4.0, k=k, dim=SHARED_FROM)
    repeats = splitting(event, range(150), Splitting(num_particles=32, num_moves=3))
    logs = np.array([repeat.log_mass + 4.0 for repeat in repeats])
    error = np.exp(logs).std(ddof=1) / math.sqrt(len(logs))
    print(f"{np.exp(logs).mean():.3f} +- {error:.3f}, spread {logs.std(ddof=1):.3f}")
    assert abs(np.exp(logs).mean() - 1) < 5 * error and logs.std(ddof=1) < 0.8
