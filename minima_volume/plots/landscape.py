"""Figures of one run: losses along directions, radii, volumes, and cut-offs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minima_volume.analysis.quantities import AXIS_LABELS, STAR
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
from minima_volume.stages.run import minimum_name
from minima_volume.stages.sweep_files import Sweep
from minima_volume.volume.claims import is_estimate

MAX_LINES = 100
ARROW = "arrow: no estimate, drawn at its lower limit (97.5 %); nothing is said about which is larger"
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
    variation = sweep.metadata.get("variation", "level")
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
    colors = level_colors(len(results["model_data_levels"]))
    variation = results.get("variation", "level")
    inside = ~np.isnan(radii["radius"])
    if inside.any():
        bins = np.geomspace(radii["radius"][inside].min(), radii["radius"][inside].max() * 1.0001, 40).tolist()
        for color, level, row in zip(colors, results["model_data_levels"], radii["radius"], strict=True):
            known = row[~np.isnan(row)]
            if len(known):
                axis.hist(
                    known, bins=bins, histtype="step", linewidth=1.6, color=color, label=minimum_name(level, variation)
                )
                axis.axvline(known.max(), ymax=0.05, color=color, linewidth=2)
        axis.set_xscale("log")
        plain_log(axis.xaxis)
        axis.legend(title=LEGEND_TITLES[variation])
    axis.set(
        xlabel=r"radius $r = c\,\|\xi\|$ (tick: largest)",
        ylabel="directions",
        title=f"landscape +{results['loss_landscape_data_param']}, loss threshold {results['loss_threshold']:g}, "
        f"{results['num_directions'][0]} directions",
    )
    return figure


@styled
def volumes(results: Mapping[str, Any]) -> Figure:
    """Log-volume against training data, and test loss against log-volume, of one landscape at one threshold."""
    figure = new_figure(9.5, 3.9)
    left, right = figure.subplots(1, 2)
    levels, variation = results["model_data_levels"], results.get("variation", "level")
    marks = minimum_marks(results)
    sizes = [mark.x for mark in marks]
    volume = np.array(results["log_volume_values"], dtype=float)
    limits = results["log_volume_intervals"]
    estimates = np.array([is_estimate(*pair) for pair in zip(results["log_volume_values"], limits, strict=True)])
    loss = np.array(results["test_loss_values"])
    left.plot(sizes, np.where(estimates, volume, np.nan), color=GREY, linewidth=1)
    for i, mark in enumerate(marks):
        shown = star_volume(left, mark.x, volume[i], limits[i], mark.style)
        right.plot(shown, loss[i], label=mark.name, **mark.style)
        if not estimates[i] and np.isfinite(shown):
            _arrow(right, r"$\rightarrow$", (shown, loss[i]), (10, 0), mark.style["color"])
    if outside := [minimum_name(q, variation) for q, value in zip(levels, volume, strict=True) if np.isnan(value)]:
        left.set_title(f"outside this landscape: {', '.join(outside)}", color=RED)
    left.margins(y=0.15)  # room for the arrows
    left.set_ylabel(STAR.label)
    size_axis(left, sizes, AXIS_LABELS[variation])
    right.xaxis.set_major_locator(MaxNLocator(5))
    right.set(xlabel=STAR.label, ylabel="test loss", yscale="log")
    plain_log(right.yaxis)
    right.legend(title=LEGEND_TITLES[variation], loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.suptitle(
        f"landscape +{results['loss_landscape_data_param']}, loss threshold {results['loss_threshold']:g}; smallest effective sample "
        f"size {_least(results['effective_sample_size'])} of {results['num_directions'][0]} directions",
        fontsize=10.5,
    )
    if (~estimates & np.isfinite(volume)).any():
        figure.supxlabel(ARROW, color=GREY, fontsize=8.5)
    return figure


@dataclass(frozen=True)
class Mark:
    """How one minimum is drawn beside the others of its landscape.

    Attributes:
        x: training samples, or the value of the variation.
        name: for the legend.
        style: of its marker, larger for the native minimum.
    """

    x: int
    name: str
    style: dict[str, Any]


def minimum_marks(results: Mapping[str, Any]) -> list[Mark]:
    """One per minimum of a results.json, in its order."""
    levels, variation = results["model_data_levels"], results.get("variation", "level")
    marks = []
    for i, (level, color) in enumerate(zip(levels, level_colors(len(levels)), strict=True)):
        native = variation == "level" and level == results["loss_landscape_data_param"]
        style = {"color": color, "marker": MARKERS[i % len(MARKERS)], "linestyle": "none"}
        marks.append(
            Mark(
                results["base_dataset_size"] + level if variation == "level" else level,
                minimum_name(level, variation) + (" (native)" if native else ""),
                style | {"markersize": 11 if native else 7},
            )
        )
    return marks


def star_volume(
    axis: Axes, x: float, value: float, interval: Sequence[float | None] | None, style: Mapping[str, Any]
) -> float:
    """Draw an estimate with the bar of its 95 % interval, anything else at its lower limit with an arrow upwards.

    Returns:
        The height at which it was drawn.
    """
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
            label=minimum_name(entry.get("variation_value", entry["additional_data"]), entry.get("variation", "level")),
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
        title=LEGEND_TITLES[next(iter(cutoffs.values())).get("variation", "level")],
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
