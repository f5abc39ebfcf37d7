"""Figures of one run: losses along directions, radii, volumes, and cut-offs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minima_volume.analysis.quantities import AXIS_LABELS, STAR
from minima_volume.analysis.results import Results
from minima_volume.perturbation import Curves
from minima_volume.plots.style import (
    GREY,
    MARKERS,
    RED,
    level_colors,
    new_figure,
    plain_log,
    size_axis,
    styled,
)
from minima_volume.stages.run import minimum_name, variation_of
from minima_volume.stages.sweep_files import Sweep

MAX_LINES = 100
ARROW = "arrow: no estimate, drawn at its lower limit (97.5 %); it does not tell which is larger"
LEGEND_TITLES = {"level": "trained on", "epoch": "weights after", "batch_size": "trained with"}


@styled
def loss_curves(sweeps: Mapping[int, Sweep], thresholds: Sequence[float]) -> Figure:
    """Losses of all minima of one landscape along their random directions: median, spread, and single directions faint.

    Args:
        sweeps: level -> its sweep in the landscape.
        thresholds: loss thresholds, drawn as lines.
    """
    landscape = next(iter(sweeps.values())).metadata["additional_data"]
    figure = new_figure(min(3.2 * len(sweeps), 14), 3.3)
    axes = figure.subplots(1, len(sweeps), sharex=True, sharey=True, squeeze=False)[0]
    for axis, color, (level, sweep) in zip(axes, level_colors(len(sweeps)), sweeps.items(), strict=True):
        positive = np.where(sweep.loss > 0, sweep.loss, np.nan)
        axis.plot(sweep.coefficients, positive[:MAX_LINES].T, color=color, alpha=0.15, linewidth=0.7)
        _median(axis, sweep.coefficients, positive, color)
        _threshold_lines(axis, thresholds)
        axis.set(title=_name(level, sweep), xlabel="coefficient c", yscale="log")
    axes[0].set_ylabel(f"loss in landscape +{landscape}")
    _span_thresholds(axes[0], sweeps, thresholds)
    return figure


def _name(level: int, sweep: Sweep) -> str:
    """'trained on +540', or in a series what sets the minimum apart."""
    variation = variation_of(sweep.metadata)
    return ("trained on " if variation == "level" else "") + minimum_name(level, variation)


def _median(axis: Axes, coefficients: np.ndarray, loss: np.ndarray, color: Any) -> None:
    """The median over directions while most of them are still followed (stopped ones are above)."""
    values = np.where(np.isnan(loss), np.inf, loss)
    median = np.median(values, axis=0)
    known = np.isfinite(median)
    axis.plot(coefficients[known], median[known], color=color, linewidth=2.2)


def _span_thresholds(axis: Axes, sweeps: Mapping[int, Sweep], thresholds: Sequence[float]) -> None:
    start = min((s.loss[0, 0] for s in sweeps.values() if s.loss[0, 0] > 0), default=min(thresholds) / 10)
    last = max(np.nanmax(np.where(np.isnan(s.loss), -np.inf, 1.0) * s.coefficients) for s in sweeps.values())
    axis.set_ylim(max(start / 3, 1e-9), 10 * max(thresholds))
    axis.set_xlim(0, last)


def _threshold_lines(axis: Axes, thresholds: Sequence[float]) -> None:
    for threshold in thresholds:
        axis.axhline(threshold, color=RED, linewidth=0.9, linestyle="--")


@styled
def radius_histogram(results: Mapping[str, Any], radii: Mapping[str, np.ndarray]) -> Figure:
    """Distribution of the radii of each minimum in one landscape at one threshold, largest radius marked.

    Args:
        results: a results.json.
        radii: the arrays of its radii.npz.
    """
    figure = new_figure(7, 3.8)
    axis = figure.subplots()
    read = Results.of(results)
    inside = ~np.isnan(radii["radius"])
    if inside.any():
        bins = np.geomspace(radii["radius"][inside].min(), radii["radius"][inside].max() * 1.0001, 40).tolist()
        for color, name, row in zip(level_colors(len(read.minima)), read.names, radii["radius"], strict=True):
            known = row[~np.isnan(row)]
            if len(known):
                axis.hist(known, bins=bins, histtype="step", linewidth=1.6, color=color, label=name)
                axis.axvline(known.max(), ymax=0.05, color=color, linewidth=2)
        axis.set_xscale("log")
        plain_log(axis.xaxis)
        axis.legend(title=LEGEND_TITLES[read.variation])
    axis.set(
        xlabel=r"radius $r = c\,\|\xi\|$ (tick: largest)",
        ylabel="directions",
        title=f"{read.title}, {radii['radius'].shape[1]} directions",
    )
    return figure


@styled
def volumes(results: Mapping[str, Any]) -> Figure:
    """Log-volume against training data, and test loss against log-volume, of one landscape at one threshold."""
    figure = new_figure(9.5, 3.9)
    left, right = figure.subplots(1, 2)
    read = Results.of(results)
    sizes, stars = np.array(read.positions), read.stars()
    volume = np.array([star.log_volume for star in stars], dtype=float)
    estimates = np.array([star.is_estimate for star in stars])
    left.plot(sizes, np.where(estimates, volume, np.nan), color=GREY, linewidth=1)
    for i, (style, loss) in enumerate(zip(minimum_styles(read), read.test_losses, strict=True)):
        shown = star_volume(left, sizes[i], volume[i], stars[i].limits, style)
        right.plot(shown, loss, label=read.labels[i], **style)
        if not estimates[i] and np.isfinite(shown):
            _arrow(right, r"$\rightarrow$", (shown, loss), (10, 0), style["color"])
    if outside := [name for name, value in zip(read.names, volume, strict=True) if np.isnan(value)]:
        left.set_title(f"outside this landscape: {', '.join(outside)}", color=RED)
    left.margins(y=0.15)  # room for the arrows
    left.set_ylabel(STAR.label)
    size_axis(left, sizes, AXIS_LABELS[read.variation])
    right.xaxis.set_major_locator(MaxNLocator(5))
    right.set(xlabel=STAR.label, ylabel="test loss", yscale="log")
    plain_log(right.yaxis)
    right.legend(title=LEGEND_TITLES[read.variation], loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.suptitle(
        f"{read.title}; smallest effective sample size {_least([star.effective_sample_size for star in stars])} of "
        f"{stars[0].num_directions} directions",
        fontsize=10.5,
    )
    if (~estimates & np.isfinite(volume)).any():
        figure.supxlabel(ARROW, color=GREY, fontsize=8.5)
    return figure


def minimum_styles(results: Results) -> list[dict[str, Any]]:
    """Colour, marker and size of each minimum: the native one is larger."""
    return [
        {
            "color": color,
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": "none",
            "markersize": 11 if i == results.native else 7,
        }
        for i, color in enumerate(level_colors(len(results.minima)))
    ]


def star_volume(
    axis: Axes, x: float, value: float, interval: Sequence[float | None] | None, style: Mapping[str, Any]
) -> float:
    """Draw an estimate with the bar of its 95 % interval, or what is none at its lower limit with an arrow upwards; its height."""
    low, high = interval or (None, None)
    if low is not None and high is not None:
        axis.plot([x, x], [low, high], color=style["color"], linewidth=2)
    elif low is not None:
        value = low
        _arrow(axis, r"$\uparrow$", (x, low), (0, 5), style["color"])
    axis.plot(x, value, **style)
    return value


def _arrow(axis: Axes, arrow: str, at: tuple[float, float], offset: tuple[float, float], color: Any) -> None:
    vertical = "bottom" if offset[1] else "center"
    axis.annotate(arrow, at, offset, textcoords="offset points", ha="center", va=vertical, color=color, fontsize=14)


def _least(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{min(known):.1f}" if known else "unknown"


@styled
def cutoff_curves(cutoffs: Mapping[str, Mapping[str, Any]], thresholds: Sequence[float]) -> Figure:
    """Mean loss of each minimum as samples are added: it leaves a landscape where the curve passes the threshold."""
    figure = new_figure(7.5, 4)
    axis = figure.subplots()
    for color, entry in zip(level_colors(len(cutoffs)), cutoffs.values(), strict=True):
        curve = np.array(entry["loss_curve"], dtype=float)
        axis.plot(
            entry["indices"],
            np.where(curve > 0, curve, np.nan),
            color=color,
            label=minimum_name(entry.get("variation_value", entry["additional_data"]), variation_of(entry)),
        )
        trained = entry["base_train_size"] + entry["additional_data"]
        axis.plot(
            trained,
            np.interp(trained, entry["indices"], curve),
            "o",
            color=color,
            markersize=7,
            clip_on=False,
        )
    for threshold in thresholds:
        axis.axhline(threshold, color=RED, linewidth=0.9, linestyle="--")
        axis.annotate(
            f"{threshold:g}",
            (1.0, threshold),
            xycoords=("axes fraction", "data"),
            color=RED,
            va="center",
            fontsize=9,
        )
    axis.set(
        xlabel="samples in the landscape (dot: those the model was trained on)",
        ylabel="mean loss",
        xscale="log",
        yscale="log",
    )
    axis.legend(
        title=LEGEND_TITLES[variation_of(next(iter(cutoffs.values())))],
        loc="center left",
        bbox_to_anchor=(1.08, 0.5),
    )
    return figure


@styled
def held_out_curves(curves: Mapping[int, Curves], thresholds: Sequence[float], variation: str = "level") -> Figure:
    """Test-set loss along a few random directions of each minimum: a threshold is sensible where it has not yet exploded."""
    figure = new_figure(7, 3.8)
    axis = figure.subplots()
    for color, (level, found) in zip(level_colors(len(curves)), curves.items(), strict=True):
        axis.plot(found.coefficients, found.loss[0].T, color=color, alpha=0.35, linewidth=0.8)
        axis.plot(
            found.coefficients, np.median(found.loss[0], axis=0), color=color, label=minimum_name(level, variation)
        )
    _threshold_lines(axis, thresholds)
    first = next(iter(curves.values()))
    start = max(float(found.loss[0, 0, 0]) for found in curves.values())
    near = np.median([np.median(found.loss[0], axis=0) for found in curves.values()], axis=0) <= 20 * start
    axis.set_xlim(0, first.coefficients[near].max())
    axis.set_ylim(min(thresholds) / 2, 40 * start)
    axis.set(
        xlabel="coefficient c",
        ylabel="test loss",
        yscale="log",
        title=f"{len(first.seeds)} directions, thresholds dashed",
    )
    axis.legend(title=LEGEND_TITLES[variation], loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure
