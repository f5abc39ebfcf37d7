"""Five ways to measure an ellipsoid in growing dimension, against the exact answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from minima_volume import LocalVolume, VolumeEstimate, measure_volume
from minima_volume.plots.style import BLUE, GREY, ORANGE, RED, count_axis, new_figure, styled
from minima_volume.volume.star.volume import log_unit_ball

STEEP, FLAT = 10.0, 1.0  # curvatures, half of the directions each
THRESHOLD = 0.1


@dataclass(frozen=True)
class Measured:
    """One dimension: exact values, and what `measure_volume` says.

    Attributes:
        n: dimension.
        log_volume: exact log-volume of the ellipsoid.
        plain, importance: from plain directions, and from directions that the full Hessian preconditions.
        sigma, log_mass: size of the noise, and the exact log of the Gaussian mass.
        local: Gaussian mass by plain samples or splitting, whichever `measure_volume` takes.
        reached: log of the smallest mass that 100,000 plain samples would see with 5 hits.
    """

    n: int
    log_volume: float
    plain: VolumeEstimate
    importance: VolumeEstimate
    sigma: float
    log_mass: float
    local: LocalVolume
    reached: float = math.log(5 / 100_000)


def regression(n: int, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A linear regression that fits exactly, with n samples and Hessian 2 X'X / n = Q diag(curvatures) Q'."""
    random = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(n, n, generator=random, dtype=torch.float64)).Q for _ in range(2))
    x = math.sqrt(n / 2) * left * torch.from_numpy(curvatures(n)).sqrt() @ right.T
    model = nn.Linear(n, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.randn(1, n, generator=random))
        y = model(x)
    return model, x, y


def curvatures(n: int) -> np.ndarray:
    """Half of them steep, half of them flat."""
    return np.repeat([STEEP, FLAT], [n - n // 2, n // 2])


def exact_log_volume(n: int) -> float:
    """log V_n + n/2 log(2 threshold) - 1/2 log det H.

    >>> round(math.exp(exact_log_volume(2)), 6) == round(math.pi * 0.2 / math.sqrt(10), 6)
    True
    """
    return log_unit_ball(n) + n / 2 * math.log(2 * THRESHOLD) - 0.5 * float(np.log(curvatures(n)).sum())


def exact_log_mass(n: int, sigma: float) -> float:
    """log P[sigma^2/2 (STEEP A + FLAT B) <= threshold], A and B chi-squares: the integral over B of the law of A, in logs."""
    steep, flat = n - n // 2, n // 2
    room = 2 * THRESHOLD / sigma**2
    b = np.linspace(0, room / FLAT, 20_001)[1:-1]
    logs = scipy.stats.chi2.logpdf(b, flat) + scipy.stats.chi2.logcdf((room - FLAT * b) / STEEP, steep)
    return float(scipy.special.logsumexp(logs) + math.log(b[1] - b[0]))


def sigma_for(n: int) -> float:
    """Noise that raises the mean loss to twice the threshold: sigma^2/2 tr H = 2 threshold."""
    return math.sqrt(4 * THRESHOLD / float(curvatures(n).sum()))


def measure_dimension(n: int, num_directions: int = 500, seed: int = 1, **splitting: int) -> Measured:
    """All estimates of one ellipsoid; `splitting` is handed to `measure_volume`."""
    model, x, y = regression(n)
    sigma = sigma_for(n)
    shared = {"threshold": THRESHOLD, "scaling": "none", "seed": seed, "progress": False}
    rays = {"measure": "lebesgue", "num_directions": num_directions, "max_coefficient": 1e4}
    plain = measure_volume(model, x, y, "mse", **rays, **shared)
    importance = measure_volume(model, x, y, "mse", estimator="importance", preconditioner="full", **rays, **shared)
    local = measure_volume(model, x, y, "mse", sigma=sigma, **splitting, **shared)
    assert isinstance(plain, VolumeEstimate) and isinstance(importance, VolumeEstimate)
    assert isinstance(local, LocalVolume)
    return Measured(n, exact_log_volume(n), plain, importance, sigma, exact_log_mass(n, sigma), local)


def measure_ellipsoids(
    dims: Sequence[int] = (2, 5, 10, 20, 50, 100, 200), num_directions: int = 500, **splitting: int
) -> list[Measured]:
    """Every dimension, smallest first."""
    return [measure_dimension(n, num_directions, **splitting) for n in dims]


@styled
def figure_of_ellipsoids(measured: Sequence[Measured]) -> Figure:
    """Errors of the two ray estimates; the exact Gaussian mass and the measured one; the errors of that."""
    figure = new_figure(12, 3.9)
    first, second, third = figure.subplots(1, 3)
    dims = [one.n for one in measured]
    for name, color, marker in (("plain", ORANGE, "s"), ("importance", BLUE, "o")):
        found: list[VolumeEstimate] = [getattr(one, name) for one in measured]
        errors = [(one.log_volume or math.nan) - m.log_volume for one, m in zip(found, measured, strict=True)]
        size = f"{found[-1].effective_sample_size:,.1f} of {len(found[-1].radii):,}"
        first.plot(
            dims,
            errors,
            color=color,
            marker=marker,
            markersize=5,
            label=f"{name} directions; at n = {dims[-1]:,}\neffective sample size {size}",
        )
    first.axhline(0, color=GREY, linewidth=0.9)
    first.set_title("log-volume by rays")
    first.set_ylabel("estimate − exact (nats)")
    first.legend(loc="lower left")
    second.plot(dims, [one.log_mass for one in measured], color=GREY, linewidth=1.4, label="exact")
    third.axhline(0, color=GREY, linewidth=0.9)
    for method, label, color, marker in (
        ("monte_carlo", "plain samples", ORANGE, "s"),
        ("splitting", "splitting", BLUE, "o"),
    ):
        chosen = [one for one in measured if one.local.method == method]
        style = {"color": color, "marker": marker, "linestyle": "none", "markersize": 6, "label": label}
        second.plot([one.n for one in chosen], [one.local.log_mass for one in chosen], **style)
        third.plot(
            [one.n for one in chosen], [(one.local.log_mass or math.nan) - one.log_mass for one in chosen], **style
        )
        for one in chosen:
            low, high = (math.nan if limit is None else limit - one.log_mass for limit in one.local.interval)
            third.plot([one.n] * 2, [low, high], color=color, linewidth=1.6)
    second.axhline(measured[0].reached, color=RED, linewidth=1, linestyle="--")
    second.text(dims[0], measured[0].reached, "100,000 plain samples reach to here", color=RED, fontsize=8, va="bottom")
    second.set(ylabel="log mass (nats)", title="Gaussian mass")
    second.legend(loc="lower left")
    third.set(ylabel="estimate − exact (nats)", title="Gaussian mass, errors; bar: 95 % interval")
    for axis in (first, second, third):
        count_axis(axis, dims, "dimension n")
    return figure
