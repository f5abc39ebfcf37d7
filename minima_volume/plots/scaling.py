"""Figures across landscapes: the scaling law of native minima, and minima followed from landscape to landscape."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minima_volume.analysis.aggregates import native_minima, scaling_law
from minima_volume.analysis.quantities import MASS, STAR, Quantity, estimated, kind_of, measured, possible
from minima_volume.analysis.statistics import Line, Mean, mean_interval
from minima_volume.plots.panels import (
    data_axis,
    marker_legend,
    notes,
    one_sided,
    over_seeds,
    panel_title,
    set_aside,
    shared_legend,
    thousands,
    volume_panels,
)
from minima_volume.plots.style import (
    BLUE,
    GREEN,
    GREY,
    MARKERS,
    RED,
    level_colors,
    new_figure,
    size_axis,
    styled,
)


@styled
def scaling(table: pd.DataFrame, threshold: float) -> Figure:
    """Volume of the native minimum of every landscape against what it was trained on; of data, with the line log V = a log N + b.

    Args:
        table: the tidy table of all landscapes, from `analysis.collect`.
        threshold: of the loss.
    """
    native = native_minima(table, threshold).assign(native=False)  # all are: none is marked
    quantities = in_several_landscapes(native)
    laws = [scaling_law(table, threshold, q.column) for q in quantities]
    figure, axes = volume_panels(quantities)
    for axis, quantity, law in zip(axes, quantities, laws, strict=True):
        over_seeds(axis, native, quantity)
        if law is not None:
            sizes = np.array(sorted(native["train_size"].unique()), dtype=float)
            axis.plot(
                sizes, law.slope * np.log(sizes) + law.intercept, "--", color="black", label="log V = a log N + b"
            )
        line = f"\n{law_text(law)}" if kind_of(native) == "level" else ""
        axis.set(ylabel=quantity.label, title=f"{panel_title(native, quantity)}{line}")
        data_axis(axis, native)
        if law is not None:
            axis.set_xlabel("training samples N")
    count = native["run"].nunique()
    shared_legend(
        figure, axes, f"native minima of all landscapes, loss threshold {threshold:g}, {count} seed{'s' * (count > 1)}"
    )
    sources = dict.fromkeys(law.interval_from for law in laws if law is not None)
    explained = [f"in brackets: the slope's 95 % interval, from {source}" for source in sources]
    figure.supxlabel("\n".join([*explained, *notes(native, [STAR])]), color=GREY, fontsize=8.5)
    return figure


def in_several_landscapes(rows: pd.DataFrame) -> list[Quantity]:
    """The quantities with values in two landscapes or more, or all that were measured if none has."""
    quantities = measured(rows)
    return [q for q in quantities if rows.loc[rows[q.column].notna(), "landscape"].nunique() > 1] or quantities


def law_text(law: Line | None) -> str:
    """Slope and how well the line fits, to read.

    >>> law_text(None)
    'no line: it takes three seeds with estimates\\nin three landscapes each'
    """
    if law is None:
        return "no line: it takes three seeds with estimates\nin three landscapes each"
    number = ",.0f" if abs(law.slope) >= 100 else ".2f"
    return (
        f"a = {law.slope:{number}} ({law.slope_lower:{number}} to {law.slope_upper:{number}}), R² = {law.r_squared:.2f}"
    )


@styled
def minima_across_landscapes(table: pd.DataFrame, cutoffs: pd.DataFrame, threshold: float) -> Figure:
    """Every minimum in all landscapes it is measured in, means over seeds, and where it leaves.

    Args:
        table: the tidy table of all landscapes.
        cutoffs: `Collected.cutoffs`; the dotted line of a colour is the median number of samples at which that minimum is above the
            threshold for the first time.
        threshold: of the loss.
    """
    rows = table[table["threshold"] == threshold]
    rows = rows.assign(size=rows["train_size"] - rows["level"] + rows["landscape"])
    quantities = in_several_landscapes(rows)
    figure, axes = volume_panels(quantities)
    levels = sorted(rows["level"].unique())
    for axis, quantity in zip(axes, quantities, strict=True):
        for i, (color, level) in enumerate(zip(level_colors(len(levels)), levels, strict=True)):
            part = rows[rows["level"] == level]
            aside = set_aside(rows["size"], i, len(levels))
            _followed(axis, part, quantity, color, MARKERS[i % len(MARKERS)], aside)
            at = cutoffs[(cutoffs["level"] == level) & np.isclose(cutoffs["threshold"], threshold)]["samples"]
            if at.notna().mean() > 0.5:
                axis.axvline(float(at.median()), ymax=0.12, color=color, linestyle=":", linewidth=2.5)
        axis.set(ylabel=quantity.label, title=panel_title(rows, quantity))
        thousands(axis.yaxis, rows[quantity.column])
        size_axis(axis, rows["size"], "samples of the landscape")
    marker_legend(figure, axes[0], "trained on")
    seeds = rows["run"].nunique()
    figure.suptitle(
        f"minima across landscapes, loss threshold {threshold:g}, {seeds} seed{'s' * (seeds > 1)}", fontsize=10.5
    )
    bars = "bars: 95 % interval over seeds; " if seeds > 1 else ""
    explained = [
        f"points side by side are of one landscape; {bars}dotted: where a minimum leaves",
        *notes(rows, [STAR]),
    ]
    figure.supxlabel("\n".join(explained), color=GREY, fontsize=8.5)
    return figure


def _followed(axis: Axes, part: pd.DataFrame, quantity: Quantity, color: str, marker: str, aside: float) -> None:
    sizes: list[float] = []
    means: list[Mean] = []
    for _, group in part.assign(value=estimated(part, quantity.column)).groupby("size"):
        mean = mean_interval(group["value"].to_numpy(dtype=float), possible(quantity.column))
        if mean.count:
            sizes.append(aside * float(group["size"].iloc[0]))
            means.append(mean)
    bars = np.array([(mean.value - mean.lower, mean.upper - mean.value) for mean in means]).reshape(-1, 2).T
    axis.errorbar(
        sizes,
        [mean.value for mean in means],
        yerr=np.nan_to_num(bars),
        color=color,
        marker=marker,
        markersize=7,
        elinewidth=1.2,
        capsize=3,
        label=f"{int(part['train_size'].iloc[0]):,}",
    )
    one_sided(axis, part, quantity.column, aside * part["size"], color)


@styled
def cliff(across: pd.DataFrame, name: str, sigma: float, threshold: float) -> Figure:
    """One minimum in landscapes of more and more data: its Gaussian local volume, and its own loss, until it leaves.

    Args:
        across: from `stages.cliff.masses_across`.
        name: of the minimum, for the title.
        sigma: what the masses were measured at.
        threshold: of the loss.
    """
    figure = new_figure(6.6, 5.2)
    top, bottom = figure.subplots(2, 1, sharex=True)
    inside, outside = across[across["inside"]], across[~across["inside"]]
    half = [inside["log_mass"] - inside["lower"], inside["upper"] - inside["log_mass"]]
    top.errorbar(
        inside["size"],
        inside["log_mass"],
        yerr=np.nan_to_num(np.clip(half, 0, None)),
        color=BLUE,
        marker="o",
        capsize=3,
        label="log mass, 95 % interval",
    )
    bottom.plot(
        across["size"], across["start_loss"], "o-", color=GREEN, markersize=5, label="loss of the minimum itself"
    )
    bottom.axhline(threshold, color=RED, linestyle="--", label=f"threshold {threshold:g}")
    if len(outside):
        for axis in (top, bottom):
            axis.axvspan(
                outside["size"].min(), outside["size"].max() * 1.3, color=RED, alpha=0.12, label="outside: no volume"
            )
        if len(inside):
            last = inside.iloc[-1]
            floor = inside["log_mass"].min() - 0.35 * max(np.ptp(inside["log_mass"]), 1.0)
            top.plot([last["size"], outside["size"].min()], [last["log_mass"], floor], ":", color=BLUE, linewidth=2)
    top.set(ylabel=MASS.label, title=f"{name}, sigma {sigma:g}, loss threshold {threshold:g}")
    bottom.set(ylabel="mean loss", yscale="log")
    size_axis(bottom, across["size"], "samples of the landscape")
    handles = {
        label: handle for axis in (top, bottom) for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2)
    return figure
