"""The smallest deep network, f(x) = w2 w1 x: a sublevel set that is not star-shaped, rays that come back, and a Gaussian over all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from minima_volume import LocalVolume, VolumeEstimate, measure_volume
from minima_volume.plots.style import BLUE, GREEN, GREY, ORANGE, RED, new_figure, plain_log, styled

THRESHOLD = 0.02
HALF = math.sqrt(THRESHOLD)  # |w1 w2 - 1| <= HALF inside
REACH = 3.2  # half-width of the picture


@dataclass(frozen=True)
class StarRegion:
    """What is measured around the minimum (1, 1), and the exact values.

    Attributes:
        star: area of the star region from random directions, by `measure_volume`.
        exact_area: the same by integration of r^2 / 2 over the angle.
        local: Gaussian mass of the whole sublevel set, by `measure_volume`.
        exact_mass: the same by integration.
        star_mass: Gaussian mass of the star region alone, by integration.
        sigma: of the Gaussian.
    """

    star: VolumeEstimate
    exact_area: float
    local: LocalVolume
    exact_mass: float
    star_mass: float
    sigma: float


def loss(w1: np.ndarray, w2: np.ndarray) -> np.ndarray:
    """Mean squared error of w2 w1 x against x over samples whose mean square is 1."""
    return (w1 * w2 - 1) ** 2


def network() -> tuple[nn.Module, Tensor, Tensor]:
    """The network at its minimum w1 = w2 = 1, and samples whose mean square is 1."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1.0)
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    return model, x, x.clone()


def radius(angle: np.ndarray) -> np.ndarray:
    """Where (1 + r cos a)(1 + r sin a) first leaves [1 - HALF, 1 + HALF]: the smallest positive root of two quadratics."""
    square, linear = np.cos(angle) * np.sin(angle), np.cos(angle) + np.sin(angle)
    roots = []
    for side in (HALF, -HALF):
        with np.errstate(all="ignore"):
            # r = 2 side / (linear -+ sqrt): this form has no 0 / 0 where the quadratic term vanishes
            width = np.sqrt(linear**2 + 4 * square * side)
            roots += [2 * side / (linear + width), 2 * side / (linear - width)]
    found = np.array(roots)
    return np.where(found > 0, found, np.inf).min(0)


def measure_star(sigma: float = 1.0, num_directions: int = 2000, seed: int = 1) -> StarRegion:
    """Area and Gaussian mass through `measure_volume`, and both by integration."""
    model, x, y = network()
    star = measure_volume(
        model,
        x,
        y,
        "mse",
        threshold=THRESHOLD,
        measure="lebesgue",
        num_directions=num_directions,
        seed=seed,
        coefficients=np.linspace(0, 4, 81).tolist(),
        max_coefficient=1e4,  # in two dimensions some directions are very short
        progress=False,
    )
    local = measure_volume(model, x, y, "mse", threshold=THRESHOLD, sigma=sigma, seed=seed, progress=False)
    assert isinstance(star, VolumeEstimate) and isinstance(local, LocalVolume)
    angles = np.linspace(0, 2 * math.pi, 20_001)[:-1]
    r = radius(angles)
    return StarRegion(
        star,
        float(math.pi * (r**2).mean()),
        local,
        mass_by_integration(sigma),
        float((1 - np.exp(-(r**2) / (2 * sigma**2))).mean()),
        sigma,
    )


def mass_by_integration(sigma: float) -> float:
    """P[|w1 w2 - 1| <= HALF] for w ~ N(1, sigma^2): given w1, w2 lies between (1 - HALF) / w1 and (1 + HALF) / w1."""
    w1 = np.linspace(1 - 9 * sigma, 1 + 9 * sigma, 200_000)  # an even number of points: none is at 0
    ends = np.sort([(1 - HALF) / w1, (1 + HALF) / w1], axis=0)
    chance = scipy.special.ndtr((ends - 1) / sigma)
    density = np.exp(-(((w1 - 1) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
    return float(np.trapezoid((chance[1] - chance[0]) * density, w1))


@styled
def figure_of_star(measured: StarRegion, num_points: int = 700) -> Figure:
    """The region and its star-shaped part, the loss along two rays, and what the Gaussian mass sees."""
    figure = new_figure(12.5, 4.2)
    first, second, third = figure.subplots(1, 3)
    region(first)
    rays(first, second)
    region(third)
    points = 1 + measured.sigma * np.random.default_rng(0).standard_normal((2, num_points))
    inside = loss(*points) <= THRESHOLD
    third.plot(*points[:, ~inside], ".", color=GREY, markersize=2.5, alpha=0.6, label="outside")
    third.plot(*points[:, inside], "^", color=RED, markersize=4, label="inside")
    third.legend(loc="lower right", handletextpad=0.1, frameon=True, framealpha=0.9, edgecolor="none")
    first.text(-3, 2.5, "loss ≤ threshold", color=BLUE, fontsize=9)
    first.text(-3, 2.0, "star region", color=GREEN, fontsize=9)
    star, local = measured.star, measured.local
    assert star.log_volume is not None and star.interval is not None and local.log_mass is not None
    first.set_title(f"star region: area {limits(star.log_volume, star.interval, 2)}")
    first.set_xlabel(rf"weight $w_1$ (exact area: {measured.exact_area:.2f})")
    third.set_title(f"Gaussian mass {limits(local.log_mass, local.interval, 3)}")
    third.set_xlabel(
        rf"weight $w_1$ (σ = {measured.sigma:g}; exact: {measured.exact_mass:.3f}, star alone {measured.star_mass:.3f})"
    )
    return figure


def limits(log: float, interval: tuple[float | None, float | None], digits: int) -> str:
    """exp of an estimate with its 95 % interval.

    >>> limits(0.0, (-1.0, None), 2)
    '1.00 (above 0.37)'
    """
    low, high = interval
    assert low is not None
    value, bottom = f"{math.exp(log):.{digits}f}", f"{math.exp(low):.{digits}f}"
    return f"{value} (above {bottom})" if high is None else f"{value} ({bottom} to {math.exp(high):.{digits}f})"


def region(axis: Axes) -> None:
    """The sublevel set in light blue, the star region around (1, 1) outlined."""
    w = np.linspace(-REACH, REACH, 600)
    axis.contourf(w, w, loss(w[None], w[:, None]), levels=[-1, THRESHOLD], colors=[BLUE], alpha=0.25)
    angles = np.linspace(0, 2 * math.pi, 2001)
    r = radius(angles)
    axis.plot(1 + r * np.cos(angles), 1 + r * np.sin(angles), color=GREEN, linewidth=1.5)
    axis.plot(1, 1, "*", color="black", markersize=9, zorder=5)
    axis.set(xlabel=r"weight $w_1$", ylabel=r"weight $w_2$", xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")


def rays(plane: Axes, curve: Axes) -> None:
    """Two rays that leave and come back: into the other branch, and across the bend of its own."""
    for name, degrees, color, line in (("A", 225, RED, "-"), ("B", -22, ORANGE, "-.")):
        angle = math.radians(degrees)
        distance = np.linspace(0, 4.2, 2000)[1:]
        w1, w2 = 1 + distance * math.cos(angle), 1 + distance * math.sin(angle)
        shown = (np.abs(w1) < REACH) & (np.abs(w2) < REACH)
        plane.plot(w1[shown], w2[shown], color=color, linewidth=1.2, linestyle=line)
        end = w1[shown][-1], w2[shown][-1]
        plane.annotate(name, end, xytext=(-3, -13), textcoords="offset points", color=color, ha="right", weight="bold")
        r = float(radius(np.array([angle]))[0])
        plane.plot(1 + r * math.cos(angle), 1 + r * math.sin(angle), "o", color=color, markersize=6, zorder=5)
        curve.plot(distance, loss(w1, w2), color=color, linestyle=line, label=f"ray {name}")
        curve.plot(r, THRESHOLD, "o", color=color, markersize=6, zorder=5)
    curve.axhline(THRESHOLD, color=GREY, linewidth=1, linestyle="--", label="threshold")
    curve.set(xlabel="distance from the minimum", ylabel="loss", yscale="log", ylim=(1e-4, 5), xlim=(0, 4.2))
    curve.set_title("the first crossing counts; both come back")
    plain_log(curve.yaxis)
    curve.legend(loc="lower right")
