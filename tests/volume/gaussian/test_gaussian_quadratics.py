"""Gaussian local volumes of quadratic losses through `measure_volume`, against the laws of chi-squares and of their weighted sums."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import agree, fewest
from scipy.stats import chi2
from torch import Tensor, nn

import minima_volume as mv
from minima_volume.volume.gaussian.estimate import LocalVolume
from minima_volume.volume.gaussian.mass import plain_estimate

EPS = 0.1


def regression(
    spectrum: np.ndarray, n: int, rotated: bool = True, dtype: torch.dtype = torch.float32
) -> tuple[nn.Linear, Tensor, Tensor]:
    """A linear regression with an exact fit, whose mean squared error has these eigenvalues and n - k zeros: H = 2 X'X / T."""
    k, random = len(spectrum), torch.Generator().manual_seed(0)
    samples = k + 2

    def orthonormal(rows: int) -> Tensor:
        return torch.linalg.qr(torch.randn(rows, k, generator=random, dtype=torch.float64)).Q

    right = orthonormal(n) if rotated else torch.eye(n, k, dtype=torch.float64)
    x = math.sqrt(samples / 2) * orthonormal(samples) * torch.as_tensor(spectrum).double().sqrt() @ right.T
    model = nn.Linear(n, 1, bias=False, dtype=dtype)
    with torch.no_grad():
        model.weight.copy_(torch.randn(1, n, generator=random))
        x = x.to(dtype)
        return model, x, model(x)


def chi_square_quantile(log_mass: float, k: int) -> float:
    """q with chi2.logcdf(q, k) = log_mass, by bisection in log q, since the probability itself may underflow."""
    low, high = -200.0, 20.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if chi2.logcdf(math.exp(middle), k) < log_mass else (low, middle)
    return math.exp(low)


def measured(
    n: int,
    k: int,
    log_mass: float,
    scaling: str = "none",
    rotated: bool = True,
    dtype: torch.dtype = torch.float32,
    **options: object,
) -> LocalVolume:
    """The estimate at the sigma where k equal eigenvalues h of n give this log mass: chi2.logcdf(2 eps / (h sigma^2), k)."""
    h = 3.0
    model, x, y = regression(np.full(k, h), n, rotated, dtype)
    sigma = math.sqrt(2 * EPS / (h * chi_square_quantile(log_mass, k)))
    if scaling == "filter":
        sigma /= model.weight.norm().item()
    found = mv.measure_volume(
        model,
        x,
        y,
        "mse",
        threshold=EPS,
        sigma=sigma,
        scaling=scaling,
        progress=False,
        **options,  # type: ignore[arg-type]
    )
    assert isinstance(found, LocalVolume)
    return found


slow = pytest.mark.slow
CELLS = [
    (10, 10, -1.0, "none", True),
    (10, 10, -10.0, "filter", True),
    (10, 3, -10.0, "none", False),
    (40, 38, -4.0, "filter", False),
    (200, 20, -20.0, "filter", True),
    (2000, 20, -10.0, "none", True),
    pytest.param(10, 10, -100.0, "none", True, marks=slow),
    pytest.param(10, 4, -30.0, "filter", True, marks=slow),
    pytest.param(50, 50, -30.0, "none", False, marks=slow),
    pytest.param(200, 200, -100.0, "filter", True, marks=slow),
    pytest.param(2000, 20, -100.0, "filter", True, marks=slow),
    pytest.param(2000, 200, -30.0, "none", False, marks=slow),
    pytest.param(2000, 2000, -10.0, "none", True, marks=slow),
]


@pytest.mark.parametrize(("n", "k", "log_mass", "scaling", "rotated"), CELLS)
def test_equal_eigenvalues(n: int, k: int, log_mass: float, scaling: str, rotated: bool) -> None:
    """k equal eigenvalues of n, 20 repeats: 19 degrees of freedom; a false alarm in a million."""
    particles = 100 if log_mass > -25 else 250
    found = measured(n, k, log_mass, scaling, rotated, num_particles=particles, num_repeats=20, precision=9.0)
    print(
        f"{found.log_mass:.3f} {found.interval} forward {found.num_forward:,} stages {found.num_stages} note {found.note}"
    )
    agree(found, log_mass)
    assert found.method == ("monte_carlo" if log_mass > -4.5 else "splitting")
    assert found.standard_error is not None and found.standard_error < max(0.3, 0.015 * abs(log_mass))  # it can fail
    assert (found.num_params, found.num_zero, found.scaling) == (n, 0, scaling)


def test_double_precision() -> None:
    """A float64 model and samples: the same law."""
    found = measured(8, 8, -8.0, dtype=torch.float64, num_particles=100, num_repeats=16, precision=9.0)
    agree(found, -8.0)
    assert found.start_loss < 1e-25


def test_spread_spectrum() -> None:
    """Eigenvalues over four decades, at a log mass of about -8, against 10^7 plain samples of the weighted sum of chi-squares.

    A false alarm in a million, by 15 degrees of freedom.
    """
    spectrum, n, sigma = np.geomspace(1e-2, 1e2, 12), 15, 0.22
    model, x, y = regression(spectrum, n)
    random = np.random.default_rng(0)
    weights = (spectrum * sigma**2 / 2).astype(np.float32)
    hits = 0
    for _ in range(50):
        hits += int((np.square(random.standard_normal((200_000, 12), dtype=np.float32)) @ weights <= EPS).sum())
    truth = plain_estimate(hits, 10_000_000)
    found = mv.measure_volume(
        model, x, y, "mse", threshold=EPS, sigma=sigma, scaling="none", progress=False, num_repeats=16, precision=9.0
    )
    assert isinstance(found, LocalVolume) and found.method == "splitting"
    print(f"{found.log_mass:.3f} {found.interval}, 10^7 plain samples {truth.log_mass:.3f} ({hits} hits)")
    agree(found, truth)


def coverage(seeds: range, **options: object) -> tuple[int, float]:
    """How many 95 % intervals cover a log mass of -10 at n = 20, and their mean half-width."""
    found = [measured(20, 20, -10.0, seed=seed, **options) for seed in seeds]
    limits = np.array([mass.interval for mass in found])
    return int(((limits[:, 0] < -10) & (limits[:, 1] > -10)).sum()), float(np.diff(limits).mean() / 2)


def test_intervals_cover() -> None:
    """40 seeds with few particles: intervals that cover in 90 % at least fail this once in a million."""
    covered, half = coverage(range(40), num_particles=40, num_moves=8, precision=0.6)
    print(f"{covered} of 40, half-width {half:.2f}")
    assert covered >= fewest(40, 0.9) and half < 1.2


@slow
def test_intervals_cover_in_200_seeds() -> None:
    """The same for the default settings but for the particles; no interval needs to be wide for it."""
    covered, half = coverage(range(200), num_particles=100)
    print(f"{covered} of 200, half-width {half:.2f}")
    assert covered >= fewest(200, 0.9) and half < 0.6


def test_probability_one_and_a_profile() -> None:
    """Small sigmas keep everything; the profile falls, and each of its volumes is what one sigma alone gives."""
    model, x, y = regression(np.ones(5), 6)
    options = {"threshold": EPS, "scaling": "none", "progress": False, "num_particles": 100, "num_repeats": 16}
    profile = mv.measure_volume(model, x, y, "mse", sigma=[1e-6, 0.2, 0.8], **options)  # type: ignore[arg-type]
    assert isinstance(profile, mv.VolumeProfile)
    assert profile.log_mass[0] == 0 and profile.interval[0, 1] == 0 and -2e-3 < profile.interval[0, 0] < 0
    for found in profile.volumes[1:]:
        agree(found, float(chi2.logcdf(2 * EPS / found.sigma**2, 5)))
    alone = mv.measure_volume(model, x, y, "mse", sigma=0.8, **options)  # type: ignore[arg-type]
    assert replace(alone, context=profile.volumes[2].context) == profile.volumes[2]
    assert profile.verdict.splitlines()[1].startswith("sigma 0.2: measured: -")
    assert str(profile).splitlines()[1] == profile.verdict.splitlines()[0]


def test_a_profile_says_what_its_volumes_have_in_common() -> None:
    """Once where all are estimates; with each where it is all that is known."""
    model, x, y = regression(np.ones(5), 6)
    plateau = mv.measure_volume(model, x, y, "mse", sigma=[0.01, 0.02], threshold=1e3, progress=False)
    assert isinstance(plateau, mv.VolumeProfile)
    lines = plateau.verdict.splitlines()
    assert len(lines) == 3 and lines[2].startswith("at each sigma: threshold 1000: ")
    with torch.no_grad():
        model.weight += 10
    outside = mv.measure_volume(model, x, y, "mse", sigma=[0.01, 0.02], threshold=EPS, progress=False)
    assert isinstance(outside, mv.VolumeProfile)
    assert len(outside.verdict.splitlines()) == 2 and "None" not in outside.verdict
