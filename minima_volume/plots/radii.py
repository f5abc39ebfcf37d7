"""The radii of a landscape in detail: a histogram per minimum and threshold, the directions that count marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minima_volume.analysis.quantities import AXIS_LABELS, axis_point
from minima_volume.analysis.results import Results, Star
from minima_volume.plots.marks import Look, looks
from minima_volume.plots.style import GREY, RED, caption, new_figure, plain_log, styled

BINS = 36
Measured = tuple[Mapping[str, Any], Mapping[str, np.ndarray]]


@styled
def radius_details(measured: Sequence[Measured]) -> Figure:
    """Histograms of the radii of one landscape: a row per minimum, the native one marked, a column per threshold.

    The ticks below are the directions that count: as many of the largest radii as the effective sample size.

    Args:
        measured: a results.json with the arrays of its radii.npz, for each threshold.
    """
    reads = [Results.of(results) for results, _ in measured]
    first = reads[0]
    bins = _bins([radii["radius"] for _, radii in measured])
    count = len(first.minima)
    figure = new_figure(max(6.8, 1.2 + 3.4 * len(reads)), 1.5 + 1.25 * count)
    panels = figure.subplots(count, len(reads), squeeze=False, sharex=True, sharey="col")
    found = looks(first.all_minima)
    for column, (read, (_, radii)) in enumerate(zip(reads, measured, strict=True)):
        for i, (minimum, star) in enumerate(zip(read.minima, read.stars(), strict=True)):
            axis = panels[i][column]
            _histogram(axis, radii["radius"][i], bins, found[minimum], star)
            if i == read.native:
                axis.spines["left"].set(color=RED, linewidth=2.5)
            if column == 0:
                native = "\n(native)" if i == read.native else ""
                axis.set_ylabel(
                    f"{axis_point(read.kind, read.positions[i]).replace(' ', chr(10), 1)}{native}", fontsize=8.5
                )
        panels[0][column].set_title(f"loss threshold {read.threshold:g}")
        panels[-1][column].set_xlabel(r"radius $r = c\,\|\xi\|$")
    figure.suptitle(
        f"{first.title.rpartition(',')[0]}, {measured[0][1]['radius'].shape[1]:,} directions", fontsize=10.5
    )
    caption(
        figure,
        f"rows: minima by {AXIS_LABELS[first.kind]}; height: directions\n"
        "ticks: the largest radii, as many as directions count (effective sample size)",
    )
    return figure


def _bins(radii: Sequence[np.ndarray]) -> list[float]:
    """Edges that all panels share, equal in the logarithm."""
    known = np.concatenate([one[np.isfinite(one)] for one in radii])
    if not len(known):
        return [0.1, 1.0]
    return np.geomspace(known.min() / 1.01, known.max() * 1.01, BINS + 1).tolist()


def counting(radii: np.ndarray, effective: float | None) -> np.ndarray:
    """The largest radii, as many as the effective sample size.

    >>> counting(np.array([1.0, 5.0, 3.0, np.nan]), 1.4)
    array([3., 5.])
    """
    known = np.sort(radii[np.isfinite(radii)])
    return known[len(known) - min(len(known), math.ceil(effective or 0)) :]


def _histogram(axis: Axes, radii: np.ndarray, bins: Sequence[float], look: Look, star: Star) -> None:
    axis.set_xscale("log")
    plain_log(axis.xaxis)
    if not np.isfinite(radii).any():
        axis.text(0.5, 0.5, "outside", transform=axis.transAxes, ha="center", va="center", color=GREY)
        return
    axis.hist(radii[np.isfinite(radii)], bins=list(bins), color=look.color, edgecolor="white", linewidth=0.4)
    marked = counting(radii, star.effective_sample_size)
    axis.plot(marked, np.zeros(len(marked)), "|", color=RED, markersize=14, markeredgewidth=2, clip_on=False)
    effective = "unknown" if star.effective_sample_size is None else f"{star.effective_sample_size:.1f}"
    axis.text(0.01, 0.92, f"{effective} count", transform=axis.transAxes, va="top", color=GREY, fontsize=8)
