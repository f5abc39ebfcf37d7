"""Figures of one run: losses along directions, radii, volumes, and cut-offs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minima_volume.analysis.quantities import AXIS_LABELS, STAR, axis_point
from minima_volume.analysis.results import Results
from minima_volume.analysis.subjects import subject
from minima_volume.perturbation import Curves
from minima_volume.plots.marks import Look, bounds, label_ends, looks, ring
from minima_volume.plots.panels import minima_axis
from minima_volume.plots.style import GREY, RED, caption, new_figure, plain_log, size_axis, styled
from minima_volume.stages.run import minimum_name, variation_of
from minima_volume.stages.sweep_files import Sweep

MAX_LINES = 100
ARROW = "hollow, with an arrow: no estimate, drawn at its lower limit (97.5 %); it does not tell which is larger"
ALONE = "{minimum} is alone in this landscape: there is nothing to set beside it, its numbers are in the table"
ADDITIONAL = "additional training samples"


@styled
def loss_curves(
    sweeps: Mapping[int, Sweep], thresholds: Sequence[float], minima: Sequence[int] | None = None
) -> Figure:
    """Losses of all minima of one landscape along their random directions: median, spread, and single directions faint.

    Args:
        sweeps: level -> its sweep in the landscape.
        thresholds: loss thresholds, drawn as lines.
        minima: all of the run, by which minima have their colours; those of `sweeps` by default.
    """
    metadata = next(iter(sweeps.values())).metadata
    size = int(metadata["base_dataset_size"]) + int(metadata["additional_data"])
    figure = new_figure(max(min(3.2 * len(sweeps), 14), 4.2), 3.5)
    axes = figure.subplots(1, len(sweeps), sharex=True, sharey=True, squeeze=False)[0]
    found = looks(list(sweeps) if minima is None else minima)
    for axis, (level, sweep) in zip(axes, sweeps.items(), strict=True):
        positive = np.where(sweep.loss > 0, sweep.loss, np.nan)
        axis.plot(sweep.coefficients, positive[:MAX_LINES].T, color=found[level].color, alpha=0.15, linewidth=0.7)
        _median(axis, sweep.coefficients, positive, found[level].color)
        _threshold_lines(axis, thresholds)
        axis.set(title=_name(level, sweep), xlabel="coefficient c", yscale="log")
    axes[0].set_ylabel("mean loss")
    measured = subject(metadata.get("settings", {}))
    figure.suptitle(
        f"{measured + ': ' if measured else ''}landscape of {size:,} samples; bold: median; dashed: thresholds",
        fontsize=10.5,
    )
    _span_thresholds(axes[0], sweeps, thresholds)
    plain_log(axes[0].yaxis)
    return figure


def _name(level: int, sweep: Sweep) -> str:
    """'600 training samples', or in a series what sets the minimum apart."""
    variation = variation_of(sweep.metadata)
    if variation != "level":
        return minimum_name(level, variation)
    return f"{int(sweep.metadata['base_dataset_size']) + level:,} {AXIS_LABELS['level']}"


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
    """Distribution of the radii of each minimum in one landscape at one threshold, as curves; the largest radius marked.

    Args:
        results: a results.json.
        radii: the arrays of its radii.npz.
    """
    figure = new_figure(7.6, 3.9)
    axis = figure.subplots()
    read = Results.of(results)
    found = looks(read.all_minima)
    for minimum, label, row in zip(read.minima, read.labels, radii["radius"], strict=True):
        known = np.sort(row[~np.isnan(row)])
        if len(known):
            radius_curve(axis, known, found[minimum], label)
    axis.set(
        xscale="log",
        ylim=(0, 1.02),
        xlabel=r"radius $r = c\,\|\xi\|$ (marker: the largest)",
        ylabel="share of directions with a smaller radius",
        title=f"{read.title}, {radii['radius'].shape[1]} directions",
    )
    plain_log(axis.xaxis)
    if axis.lines:
        axis.legend(title=AXIS_LABELS[read.kind], loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def radius_curve(axis: Axes, radii: np.ndarray, look: Look, label: str) -> None:
    """The share of directions whose radius is at most r, against r, and the largest one marked.

    Args:
        axis: where.
        radii: ascending.
        look: of the minimum.
        label: in the legend.
    """
    share = np.arange(1, len(radii) + 1) / len(radii)
    steps = np.insert(radii, 0, radii[0]), np.insert(share, 0, 0.0)
    last: dict[str, Any] = {"markevery": [len(radii)], "markersize": 9, "markeredgecolor": "white", "clip_on": False}
    style: dict[str, Any] = {
        "color": look.color,
        "linestyle": look.line,
        "marker": look.marker,
        "drawstyle": "steps-post",
    }
    axis.plot(*steps, **style, **last, label=label)


@styled
def volumes(results: Mapping[str, Any]) -> Figure | str:
    """Log-volume against training data, and test loss against log-volume, of one landscape at one threshold.

    A sentence if the landscape has one minimum alone.
    """
    read = Results.of(results)
    if len(read.minima) < 2:
        return ALONE.format(minimum=point_of(read, 0))
    figure = new_figure(9.5, 3.9)
    left, right = figure.subplots(1, 2)
    stars, found = read.stars(), looks(read.all_minima)
    volume = np.array([star.log_volume for star in stars], dtype=float)
    estimates = np.array([star.is_estimate for star in stars])
    native = np.nan, np.nan
    left.plot(read.positions, np.where(estimates, volume, np.nan), color=GREY, linewidth=1)
    for i, (minimum, loss) in enumerate(zip(read.minima, read.test_losses, strict=True)):
        look = found[minimum]
        shown = star_volume(left, read.positions[i], volume[i], stars[i].limits, look, i == read.native)
        if estimates[i] or not np.isfinite(shown):
            right.plot(shown, loss, **look.point, markersize=8, label=read.labels[i])
        else:
            bounds(right, shown, loss, "right", look, read.labels[i])
        if i == read.native:
            native = shown, loss
    ring(right, *native, "native" if read.native is not None else None)
    if outside := [label for label, value in zip(read.labels, volume, strict=True) if np.isnan(value)]:
        left.set_title(f"outside this landscape: {', '.join(outside)}", color=RED)
    for axis in (left, right):
        axis.margins(y=0.15)  # room for the arrows
    left.set_ylabel(STAR.label)
    left.yaxis.set_major_formatter("{x:,g}")
    minima_axis(left, read.positions, read.kind)
    right.xaxis.set_major_locator(MaxNLocator(4))
    right.xaxis.set_major_formatter("{x:,g}")
    right.set(xlabel=STAR.label, ylabel="test loss", yscale="log")
    plain_log(right.yaxis)
    right.legend(title=AXIS_LABELS[read.kind], loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.suptitle(
        f"{read.title}; smallest effective sample size {_least([star.effective_sample_size for star in stars])} of "
        f"{stars[0].num_directions} directions",
        fontsize=10.5,
    )
    if (~estimates & np.isfinite(volume)).any():
        caption(figure, ARROW)
    return figure


def point_of(read: Results, i: int) -> str:
    """The i-th minimum in a sentence.

    >>> content = {"model_data_levels": [540], "base_dataset_size": 60, "loss_landscape_data_param": 540}
    >>> point_of(Results(content), 0)
    'the minimum of 600 training samples'
    """
    return f"the minimum of {axis_point(read.kind, read.positions[i])}"


def star_volume(
    axis: Axes, x: float, value: float, interval: Sequence[float | None] | None, look: Look, native: bool = False
) -> float:
    """Draw an estimate with the bar of its 95 % interval, or what is none at its lower limit, hollow, with an arrow upwards; its height."""
    low, high = interval or (None, None)
    if low is not None and high is None:
        value = low
        bounds(axis, x, low, "up", look)
    else:
        if low is not None and high is not None:
            axis.plot([x, x], [low, high], color=look.color, linewidth=2)
        axis.plot(x, value, **look.point, markersize=8)
    if native and np.isfinite(value):
        ring(axis, x, value)
    return value


def _least(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{min(known):.1f}" if known else "unknown"


@styled
def cutoff_curves(
    cutoffs: Mapping[str, Mapping[str, Any]], thresholds: Sequence[float], title: str = ""
) -> Figure | str:
    """Mean loss of each minimum as samples are added: it leaves a landscape where the curve passes the threshold.

    A sentence if the run has one landscape alone, to which no samples are added.

    Args:
        cutoffs: of a cutoffs.json.
        thresholds: of the loss, drawn as lines.
        title: data set and model, see `analysis.subjects`.
    """
    entries = list(cutoffs.values())
    indices = entries[0]["indices"]
    if len(indices) < 2:
        return f"there is one landscape alone, of {indices[0]:,} samples: no samples are added that a minimum could leave at"
    figure = new_figure(8, 4.2)
    axis = figure.subplots()
    variation = variation_of(entries[0])
    found = looks([entry.get("variation_value", entry["additional_data"]) for entry in entries])
    sizes = sorted(
        {entry["base_train_size"] + entry["additional_data"] for entry in entries} | {indices[0], indices[-1]}
    )
    axis.set(xscale="log", yscale="log", ylabel="mean loss", title=title)
    ends = {}
    for (minimum, look), entry in zip(found.items(), entries, strict=True):
        curve = np.array(entry["loss_curve"], dtype=float)
        positive = np.where(curve > 0, curve, np.nan)
        trained = entry["base_train_size"] + entry["additional_data"]
        label = f"{trained:,}" if variation == "level" else f"{minimum:,}"
        axis.plot(entry["indices"], positive, color=look.color, linestyle=look.line, label=label)
        start = np.interp(trained, entry["indices"], positive)
        axis.plot(trained, start, **look.point, markersize=8, clip_on=False)
        known = positive[np.isfinite(positive)]
        ends[label] = (known[-1] if len(known) else axis.get_ylim()[0], look.color)
    for threshold in thresholds:
        axis.axhline(threshold, color=RED, linewidth=0.9, linestyle="--", zorder=1)
        axis.annotate(f"threshold {threshold:g}", (0.99, threshold), xycoords=("axes fraction", "data"), **ABOVE_LINE)
    plain_log(axis.yaxis)
    size_axis(axis, sizes, "samples in the landscape (marker: those that the model was trained on)")
    axis.set_xlim(right=indices[-1])
    label_ends(axis, ends, AXIS_LABELS[variation])
    return figure


ABOVE_LINE: dict[str, Any] = {
    "xytext": (0, 3),
    "textcoords": "offset points",
    "color": RED,
    "ha": "right",
    "va": "bottom",
    "fontsize": 8.5,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5},
}


@styled
def held_out_curves(
    curves: Mapping[int, Curves],
    thresholds: Sequence[float],
    variation: str = "level",
    base_size: int | None = None,
) -> Figure:
    """Test-set loss along a few random directions of each minimum: a threshold is sensible where it has not yet exploded.

    Args:
        curves: minimum -> its curves.
        thresholds: of the loss.
        variation: level, epoch or batch_size.
        base_size: samples that every model sees, so that the legend can say how many each was trained on.
    """
    figure = new_figure(7.4, 3.8)
    axis = figure.subplots()
    base = base_size if variation == "level" and base_size is not None else 0
    for (level, look), found in zip(looks(list(curves)).items(), curves.values(), strict=True):
        axis.plot(found.coefficients, found.loss[0].T, color=look.color, alpha=0.35, linewidth=0.8)
        median = np.median(found.loss[0], axis=0)
        style: dict[str, Any] = {"marker": look.marker, "markevery": 0.1, "markersize": 5}
        axis.plot(found.coefficients, median, color=look.color, **style, label=f"{base + level:,}")
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
    plain_log(axis.yaxis)
    title = ADDITIONAL if variation == "level" and base_size is None else AXIS_LABELS[variation]
    axis.legend(title=title, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure
