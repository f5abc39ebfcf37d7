"""Figures of Gaussian local volumes of one run: its minima, and their volume profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minima_volume.analysis.quantities import AXIS_LABELS, MASS, STAR
from minima_volume.plots.landscape import ARROW, LEGEND_TITLES, minimum_marks, star_volume
from minima_volume.plots.style import (
    GREY,
    MARKERS,
    level_colors,
    new_figure,
    plain_log,
    size_axis,
    styled,
)
from minima_volume.stages.run import minimum_name
from minima_volume.volume.claims import is_estimate


@styled
def log_masses(results: Mapping[str, Any]) -> Figure:
    """log_mass at the headline sigma against training data, 95 % intervals; beside it the published-style log-volume.

    Args:
        results: a results.json; without `log_mass_values` the figure says so.
    """
    if "log_mass_values" not in results:
        return _words("Gaussian local volumes were not measured: set volume.gaussian.sigma")
    figure = new_figure(9.8, 4.1)
    left, right = figure.subplots(1, 2)
    levels, variation = results["model_data_levels"], results.get("variation", "level")
    marks = minimum_marks(results)
    column = results["sigmas"].index(results["sigma"])
    one_sided = False
    for i, mark in enumerate(marks):
        _mass(left, mark.x, results, i, column, mark.style)
        volume, limits = results["log_volume_values"][i], results["log_volume_intervals"][i]
        one_sided |= volume is not None and not is_estimate(volume, limits)
        star_volume(right, mark.x, np.nan if volume is None else volume, limits, mark.style | {"label": mark.name})
    title = f"Gaussian local volume, sigma {results['sigma']:g}; bar: 95 % interval"
    if outside := [minimum_name(int(levels[i]), variation) for i in range(len(levels)) if _outside(results, i, column)]:
        title += f"\noutside this landscape: {', '.join(outside)}"
    left.set(ylabel=MASS.label, title=title)
    for axis in (left, right):
        axis.margins(y=0.15)  # room for the arrows of limits
    effective = [value for value in results["effective_sample_size"] if value is not None]
    rests = f"{min(effective):.1f} of {results['num_directions'][0]}" if effective else "none"
    right.set(ylabel=STAR.label, title=f"published-style number; smallest\neffective sample size {rests}")
    for axis in (left, right):
        size_axis(axis, [mark.x for mark in marks], AXIS_LABELS[variation])
    right.legend(title=LEGEND_TITLES[variation], loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.suptitle(
        f"landscape +{results['loss_landscape_data_param']}, loss threshold {results['loss_threshold']:g}",
        fontsize=10.5,
    )
    if one_sided:
        figure.supxlabel(ARROW, color=GREY, fontsize=8.5)
    return figure


def _words(text: str) -> Figure:
    figure = new_figure(7, 0.6)
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def _mass(axis: Axes, x: float, results: Mapping[str, Any], i: int, column: int, marker: dict[str, Any]) -> None:
    value = results["log_mass_values"][i][column]
    low, high = results["log_mass_intervals"][i][column] or (None, None)
    if low is not None and high is not None:
        axis.plot([x, x], [low, high], color=marker["color"], linewidth=2)
    elif (limit := high if low is None else low) is not None:
        _limit(axis, x, limit, marker["color"], up=high is None)
    if value is not None:
        axis.plot(x, value, **marker)


def _outside(results: Mapping[str, Any], i: int, column: int) -> bool:
    """Whether a minimum was looked at and is outside: nothing was drawn, and nothing bounds it."""
    unknown = results["log_mass_values"][i][column] is None and results["log_mass_intervals"][i][column] == [None, None]
    return unknown and results["log_mass_methods"][i][column] is None


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
    if len(results.get("sigmas", ())) < 2:
        return _words("a volume profile needs several sigmas: set volume.gaussian.profile")
    figure = new_figure(7, 4)
    axis = figure.subplots()
    sigmas = np.array(results["sigmas"])
    levels = results["model_data_levels"]
    variation = results.get("variation", "level")
    for i, color in enumerate(level_colors(len(levels))):
        limits = np.array([pair or (None, None) for pair in results["log_mass_intervals"][i]], dtype=float)
        values = np.array(results["log_mass_values"][i], dtype=float)
        axis.fill_between(sigmas, limits[:, 0], limits[:, 1], color=color, alpha=0.2, linewidth=0)
        marker = MARKERS[i % len(MARKERS)]
        axis.plot(sigmas, values, color=color, marker=marker, markersize=5, label=minimum_name(levels[i], variation))
        for k in np.flatnonzero(np.isfinite(limits).sum(axis=1) == 1):
            up = bool(np.isnan(limits[k, 1]))
            _limit(axis, sigmas[k], limits[k, 0 if up else 1], color, up)
    axis.set(
        xscale="log",
        xlabel=f"sigma (scaling: {results['log_mass_scaling']})",
        ylabel=MASS.label,
        title=f"landscape +{results['loss_landscape_data_param']}, loss threshold {results['loss_threshold']:g}; band: 95 % interval",
    )
    plain_log(axis.xaxis)
    if len(sigmas) <= 6:
        axis.set_xticks(sigmas, [f"{sigma:g}" for sigma in sigmas])
        axis.set_xticks([], minor=True)
    axis.legend(title=LEGEND_TITLES[variation], loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure
