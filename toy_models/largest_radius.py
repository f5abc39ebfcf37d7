"""Why the mean of r^n over random directions is about its largest radius, once n is large."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from minima_volume.plots.marks import LINES
from minima_volume.plots.style import GREY, MARKERS, RED, count_axis, level_colors, new_figure, styled
from minima_volume.volume.star.uncertainty import log_mean

CONDITION = 10.0  # largest over smallest curvature


@dataclass(frozen=True)
class Radii:
    """Radii of ellipsoids in growing dimension, and what they say about the mean of r^n.

    Attributes:
        dims: (N,) n.
        counts: (K,) D, directions.
        exact: (N,) log E r^n.
        estimates: (S, N, K) log mean r^n minus the exact value, of S seeds.
        largest: (S, N, K) n log r_max - log D minus the exact value.
        effective: (S, N, K) effective sample sizes.
        logs: n -> (D,) n log r minus the exact log E r^n, of one seed with the most directions.
    """

    dims: np.ndarray
    counts: np.ndarray
    exact: np.ndarray
    estimates: np.ndarray
    largest: np.ndarray
    effective: np.ndarray
    logs: dict[int, np.ndarray]


def curvatures(n: int) -> np.ndarray:
    """n eigenvalues of a Hessian, evenly spaced in log between 1 and the condition number."""
    return np.geomspace(1.0, CONDITION, n)


def ellipsoid_radii(n: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Radii of {x : x'Hx <= 1} along uniform directions u: r = (u'Hu)^-1/2."""
    h, parts = curvatures(n), []
    for start in range(0, count, 1000):
        squares = random.standard_normal((min(1000, count - start), n)) ** 2
        parts.append((squares @ h / squares.sum(1)) ** -0.5)
    return np.concatenate(parts)


def measure_radii(
    dims: Sequence[int] = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
    counts: Sequence[int] = (100, 1000, 10_000),
    seeds: int = 5,
) -> Radii:
    """Estimates from the first D of the same directions, for every n and D.

    The volume of the ellipsoid is V_n det(H)^-1/2 and also V_n E r^n, so log E r^n = -1/2 log det H exactly.
    """
    exact = np.array([-0.5 * np.log(curvatures(n)).sum() for n in dims])
    shape = seeds, len(dims), len(counts)
    estimates, largest, effective = (np.empty(shape) for _ in range(3))
    logs = {}
    for i, n in enumerate(dims):
        for seed in range(seeds):
            all_logs = n * np.log(ellipsoid_radii(n, max(counts), np.random.default_rng([seed, n]))) - exact[i]
            for k, count in enumerate(counts):
                found = log_mean(all_logs[:count])
                estimates[seed, i, k] = found.value
                effective[seed, i, k] = found.effective_sample_size
                largest[seed, i, k] = all_logs[:count].max() - math.log(count)
        logs[n] = all_logs
    return Radii(np.array(dims), np.array(counts), exact, estimates, largest, effective, logs)


@styled
def figure_of_radii(radii: Radii, shown: Sequence[int] = (10, 100, 1000)) -> Figure:
    """How n log r scatters, the error of the mean beside that of the largest radius alone, and the effective sample size."""
    figure = new_figure(12, 3.9)
    first, second, third = figure.subplots(1, 3)
    for n, color, line in zip(shown, level_colors(len(shown)), LINES, strict=False):
        logs = radii.logs[n]
        first.hist(
            logs, bins=60, density=True, histtype="step", color=color, linewidth=1.6, linestyle=line, label=f"n = {n:,}"
        )
    first.axvline(0, color=RED, linewidth=1, linestyle="--", label=r"log E $r^n$, exact")
    first.set(xlabel=r"n log r − log E $r^n$ (nats)", ylabel="density over directions", yscale="log")
    first.legend(loc="upper left")
    for k, color in enumerate(level_colors(len(radii.counts))):
        name = f"{radii.counts[k]:,}"
        values, alone = (np.median(part[:, :, k], axis=0) for part in (radii.estimates, radii.largest))
        points = {"marker": MARKERS[k], "color": color, "markersize": 5, "label": name}
        second.plot(radii.dims, values, **points)
        second.plot(radii.dims, alone, "--", color=color, linewidth=1.2)
        third.plot(radii.dims, np.median(radii.effective[:, :, k], axis=0), **points)
    second.axhline(0, color=GREY, linewidth=0.9)
    second.plot([], [], "--", color=GREY, linewidth=1.2, label=r"$n\,\log\,r_{\max} - \log\,D$")
    second.set_ylabel(r"log mean $r^n$ − exact (nats)")
    second.set_yscale("symlog", linthresh=1, linscale=0.6)
    second.set_yticks([0, -1, -10, -100], ["0", "−1", "−10", "−100"])
    second.legend(title="directions D", loc="lower left")
    third.set(ylabel="effective sample size", yscale="log")
    third.yaxis.set_major_formatter("{x:,g}")
    third.axhline(1, color=GREY, linewidth=0.9)
    third.legend(title="directions D", loc="upper right")
    for axis in (second, third):
        count_axis(axis, radii.dims.tolist(), "dimension n")
    figure.suptitle(
        f"ellipsoids, condition number {CONDITION:g}; medians over {len(radii.estimates)} seeds", fontsize=10.5
    )
    return figure
