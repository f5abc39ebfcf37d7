"""Figures of Gaussian local volumes of one run: its minima, and their volume profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minima_volume.analysis.quantities import AXIS_LABELS, MASS, STAR
from minima_volume.analysis.results import Mass, Results
from minima_volume.analysis.run_tables import NOT_MEASURED
from minima_volume.plots.landscape import ALONE, ARROW, point_of, star_volume
from minima_volume.plots.marks import NATIVE, Look, bounds, looks, ring, ring_handle
from minima_volume.plots.panels import minima_axis
from minima_volume.plots.style import caption, new_figure, plain_log, styled


@styled
def log_masses(results: Mapping[str, Any]) -> Figure | str:
    """log_mass at the headline sigma against training data, 95 % intervals; beside it the published number.

    Args:
        results: a results.json; without `log_mass_values`, or of one minimum alone, a sentence says so.
    """
    read = Results.of(results)
    if not read.has_masses():
        return NOT_MEASURED
    if len(read.minima) < 2:
        return ALONE.format(minimum=point_of(read, 0))
    figure = new_figure(9.8, 4.1)
    left, right = figure.subplots(1, 2)
    sizes, stars, masses, found = read.positions, read.stars(), read.headline_masses, looks(read.all_minima)
    volumes = np.array([star.log_volume for star in stars], dtype=float)
    for i, look in enumerate(found[minimum] for minimum in read.minima):
        mass_mark(left, sizes[i], masses[i], look, i == read.native)
        star_volume(right, sizes[i], float(volumes[i]), stars[i].limits, look, i == read.native)
    title = f"Gaussian local volume, sigma {read.sigma:g}; bar: 95 % interval"
    if outside := [name for name, mass in zip(read.labels, masses, strict=True) if mass.outside]:
        title += f"\noutside this landscape: {', '.join(outside)}"
    left.set(ylabel=MASS.label, title=title)
    for axis in (left, right):
        axis.margins(y=0.15)  # room for the arrows of limits
    effective = [star.effective_sample_size for star in stars if star.effective_sample_size is not None]
    rests = f"{min(effective):.1f} of {stars[0].num_directions}" if effective else "none"
    right.yaxis.set_major_formatter("{x:,g}")
    right.set(ylabel=STAR.label, title=f"published number; smallest\neffective sample size {rests}")
    for axis in (left, right):
        minima_axis(axis, sizes, read.kind)
    if read.native is not None:
        right.legend([ring_handle()], [NATIVE], loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.suptitle(read.title, fontsize=10.5)
    if any(star.log_volume is not None and not star.is_estimate for star in stars):
        caption(figure, ARROW)
    return figure


def mass_mark(axis: Axes, x: float, mass: Mass, look: Look, native: bool = False) -> None:
    """A log mass with the bar of its 95 % interval, or hollow, with an arrow, at the only limit there is."""
    low, high = mass.limits
    if low is not None and high is not None:
        axis.plot([x, x], [low, high], color=look.color, linewidth=2)
    elif (limit := high if low is None else low) is not None:
        bounds(axis, x, limit, "up" if high is None else "down", look)
    if mass.value is not None and mass.is_estimate:
        axis.plot(x, mass.value, **look.point, markersize=8)
        if native:
            ring(axis, x, mass.value)


@styled
def volume_profiles(results: Mapping[str, Any]) -> Figure | str:
    """log_mass against sigma, a curve per minimum with its 95 % band.

    Args:
        results: a results.json; a sentence if it has not several `sigmas`.
    """
    read = Results.of(results)
    if len(read.sigmas) < 2:
        return "a volume profile needs several sigmas: set volume.gaussian.profile"
    figure = new_figure(7, 4)
    axis = figure.subplots()
    sigmas = np.array(read.sigmas)
    found = looks(read.all_minima)
    for minimum, label, masses in zip(read.minima, read.labels, read.masses(), strict=True):
        look = found[minimum]
        limits = np.array([mass.limits for mass in masses], dtype=float)
        values = np.array([mass.value if mass.is_estimate else None for mass in masses], dtype=float)
        axis.fill_between(sigmas, limits[:, 0], limits[:, 1], color=look.color, alpha=0.2, linewidth=0)
        axis.plot(sigmas, values, color=look.color, marker=look.marker, markersize=6, label=label)
        for way, known, other in (("up", 0, 1), ("down", 1, 0)):
            alone = np.isfinite(limits[:, known]) & np.isnan(limits[:, other])
            if alone.any():
                bounds(axis, sigmas[alone], limits[alone, known], way, look)
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
    axis.legend(title=AXIS_LABELS[read.kind], loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure
