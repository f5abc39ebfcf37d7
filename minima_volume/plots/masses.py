"""Figures of Gaussian local volumes of one run: its minima, and their volume profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minima_volume.analysis.quantities import AXIS_LABELS, MASS, STAR
from minima_volume.analysis.results import Mass, Results
from minima_volume.plots.landscape import ARROW, LEGEND_TITLES, minimum_styles, star_volume
from minima_volume.plots.style import (
    GREY,
    MARKERS,
    level_colors,
    new_figure,
    plain_log,
    size_axis,
    styled,
)


@styled
def log_masses(results: Mapping[str, Any]) -> Figure:
    """log_mass at the headline sigma against training data, 95 % intervals; beside it the published-style log-volume.

    Args:
        results: a results.json; without `log_mass_values` the figure says so.
    """
    read = Results.of(results)
    if not read.has_masses():
        return _words("Gaussian local volumes were not measured: set volume.gaussian.sigma")
    figure = new_figure(9.8, 4.1)
    left, right = figure.subplots(1, 2)
    sizes, stars, masses = np.array(read.positions), read.stars(), read.headline_masses
    volumes = np.array([star.log_volume for star in stars], dtype=float)
    for i, style in enumerate(minimum_styles(read)):
        mass_mark(left, sizes[i], masses[i], style)
        star_volume(right, sizes[i], float(volumes[i]), stars[i].limits, style | {"label": read.labels[i]})
    title = f"Gaussian local volume, sigma {read.sigma:g}; bar: 95 % interval"
    if outside := [name for name, mass in zip(read.names, masses, strict=True) if mass.outside]:
        title += f"\noutside this landscape: {', '.join(outside)}"
    left.set(ylabel=MASS.label, title=title)
    for axis in (left, right):
        axis.margins(y=0.15)  # room for the arrows of limits
    effective = [star.effective_sample_size for star in stars if star.effective_sample_size is not None]
    rests = f"{min(effective):.1f} of {stars[0].num_directions}" if effective else "none"
    right.set(ylabel=STAR.label, title=f"published-style number; smallest\neffective sample size {rests}")
    for axis in (left, right):
        size_axis(axis, sizes, AXIS_LABELS[read.variation])
    right.legend(title=LEGEND_TITLES[read.variation], loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.suptitle(read.title, fontsize=10.5)
    if any(star.log_volume is not None and not star.is_estimate for star in stars):
        figure.supxlabel(ARROW, color=GREY, fontsize=8.5)
    return figure


def _words(text: str) -> Figure:
    figure = new_figure(7, 0.6)
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def mass_mark(axis: Axes, x: float, mass: Mass, marker: dict[str, Any]) -> None:
    """A log mass with the bar of its 95 % interval, or an arrow at the only limit there is."""
    low, high = mass.limits
    if low is not None and high is not None:
        axis.plot([x, x], [low, high], color=marker["color"], linewidth=2)
    elif (limit := high if low is None else low) is not None:
        _limit(axis, x, limit, marker["color"], up=high is None)
    if mass.value is not None:
        axis.plot(x, mass.value, **marker)


def _limit(axis: Axes, x: float, limit: float, color: Any, up: bool) -> None:
    """An arrow from what is only a limit: up from a lower one, down from an upper one."""
    axis.plot(x, limit, "_", color=color, markersize=12, markeredgewidth=2)
    arrow = {"arrowstyle": "<|-", "color": color, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", (x, limit), (0, 16 if up else -16), textcoords="offset points", arrowprops=arrow)


@styled
def volume_profiles(results: Mapping[str, Any]) -> Figure:
    """log_mass against sigma, a curve a minimum with its 95 % band.

    Args:
        results: a results.json; where it has not several `sigmas` the figure says so.
    """
    read = Results.of(results)
    if len(read.sigmas) < 2:
        return _words("a volume profile needs several sigmas: set volume.gaussian.profile")
    figure = new_figure(7, 4)
    axis = figure.subplots()
    sigmas = np.array(read.sigmas)
    colors = level_colors(len(read.minima))
    for i, (color, masses) in enumerate(zip(colors, read.masses(), strict=True)):
        limits = np.array([mass.limits for mass in masses], dtype=float)
        values = np.array([mass.value for mass in masses], dtype=float)
        axis.fill_between(sigmas, limits[:, 0], limits[:, 1], color=color, alpha=0.2, linewidth=0)
        marker = MARKERS[i % len(MARKERS)]
        axis.plot(sigmas, values, color=color, marker=marker, markersize=5, label=read.names[i])
        for k in np.flatnonzero(np.isfinite(limits).sum(axis=1) == 1):
            up = bool(np.isnan(limits[k, 1]))
            _limit(axis, sigmas[k], limits[k, 0 if up else 1], color, up)
    axis.set(
        xscale="log",
        xlabel=f"sigma (scaling: {results['log_mass_scaling']})",
        ylabel=MASS.label,
        title=f"{read.title}; band: 95 % interval",
    )
    plain_log(axis.xaxis)
    if len(sigmas) <= 6:
        axis.set_xticks(sigmas, [f"{sigma:g}" for sigma in sigmas])
        axis.set_xticks([], minor=True)
    axis.legend(title=LEGEND_TITLES[read.variation], loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure
