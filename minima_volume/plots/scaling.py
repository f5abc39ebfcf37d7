"""Figures across landscapes: the scaling law of native minima, and minima followed from landscape to landscape."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minima_volume.analysis.aggregates import native_minima, scaling_law
from minima_volume.analysis.quantities import (
    AXIS_LABELS,
    MASS,
    STAR,
    Quantity,
    estimated,
    kind_of,
    measured,
    possible,
    x_of,
)
from minima_volume.analysis.statistics import Line
from minima_volume.plots.marks import Look, bounds, looks_of
from minima_volume.plots.panels import (
    bars_text,
    data_axis,
    marker_legend,
    means,
    notes,
    one_sided,
    over_seeds,
    panel_title,
    seeds_of,
    set_aside,
    shared_legend,
    subject_of,
    thousands,
    volume_panels,
)
from minima_volume.plots.style import BLUE, GREEN, RED, caption, new_figure, plain_log, size_axis, styled

LANDSCAPE_AXIS = "samples of the landscape"


@styled
def scaling(table: pd.DataFrame, threshold: float) -> Figure:
    """Volume of the native minimum of every landscape against what it was trained on; of data, with the line log V = a log N + b.

    Args:
        table: the tidy table of all landscapes, from `analysis.collect`.
        threshold: of the loss.
    """
    native = native_minima(table, threshold).assign(native=False)  # all are: none is ringed
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
    title = f"native minima of all landscapes, loss threshold {threshold:g}, {seeds_of(native)}"
    shared_legend(figure, axes, f"{subject_of(native)}{title}")
    sources = dict.fromkeys(law.interval_from for law in laws if law is not None and not math.isnan(law.slope_lower))
    explained = [f"in brackets: the slope's 95 % interval, from {source}" for source in sources]
    caption(figure, "\n".join([*explained, *notes(native, [STAR])]))
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
    limits = "" if math.isnan(law.slope_lower) else f" ({law.slope_lower:{number}} to {law.slope_upper:{number}})"
    return f"a = {law.slope:{number}}{limits}, R² = {law.r_squared:.2f}"


@styled
def minima_across_landscapes(table: pd.DataFrame, cutoffs: pd.DataFrame, threshold: float) -> Figure:
    """Every minimum in all landscapes it is measured in, means over seeds, and where it leaves: there it has no volume any more.

    Args:
        table: the tidy table of all landscapes.
        cutoffs: `Collected.cutoffs`; a minimum drops at the median number of samples at which it is above the threshold for the first time.
        threshold: of the loss.
    """
    rows = table[table["threshold"] == threshold]
    rows = rows.assign(size=rows["train_size"] - rows["level"] + rows["landscape"])
    quantities = in_several_landscapes(rows)
    figure = new_figure(9.8 if len(quantities) > 1 else 6.6, 5.6)
    panels = figure.subplots(2, len(quantities), squeeze=False, sharex=True, height_ratios=[2, 1])
    levels = sorted(rows["level"].unique())
    leaves = {level: _leaves(cutoffs, level, threshold) for level in levels}
    known = looks_of(rows)
    found = {level: known[float(x_of(rows)[rows["level"] == level].iloc[0])] for level in levels}
    for axis, quantity in zip(panels[0], quantities, strict=True):
        for i, level in enumerate(levels):
            part = rows[rows["level"] == level]
            _followed(axis, part, quantity, found[level], set_aside(rows["size"], i, len(levels)))
        axis.set(ylabel=quantity.label, title=panel_title(rows, quantity))
        thousands(axis.yaxis, rows[quantity.column])
        axis.margins(y=0.2)
        for level in levels:
            _drop(axis, rows[rows["level"] == level], quantity, found[level], leaves[level])
    for axis in panels[1]:
        for level in levels:
            part = rows[rows["level"] == level]
            loss = part.groupby("size")["start_loss"].mean()
            axis.plot(loss.index, loss.to_numpy(), color=found[level].color, marker=found[level].marker, markersize=5)
        axis.axhline(threshold, color=RED, linestyle="--", linewidth=1.2)
        axis.set(yscale="log", ylabel="mean loss of\nthe minimum itself")
        plain_log(axis.yaxis)
        size_axis(axis, rows["size"], LANDSCAPE_AXIS, share=0.7)
    marker_legend(figure, panels[0][0], AXIS_LABELS[kind_of(rows)])
    figure.suptitle(
        f"{subject_of(rows)}minima across landscapes, loss threshold {threshold:g} (dashed), {seeds_of(rows)}",
        fontsize=10.5,
    )
    bars = bars_text(rows, [quantity.column for quantity in quantities])
    explained = [
        f"dotted: where a minimum leaves (x: outside, no volume){bars}",
        "points side by side are of one landscape",
        *notes(rows, [STAR]),
    ]
    caption(figure, "\n".join(explained))
    return figure


def _leaves(cutoffs: pd.DataFrame, level: int, threshold: float) -> float | None:
    """The median number of samples at which a minimum leaves; None if it stays in most seeds."""
    at = cutoffs[(cutoffs["level"] == level) & np.isclose(cutoffs["threshold"], threshold)]["samples"]
    return float(at.median()) if at.notna().mean() > 0.5 else None


def _drop(axis: Axes, part: pd.DataFrame, quantity: Quantity, look: Look, leaves: float | None) -> None:
    """From the last landscape that a minimum is in to the floor of the panel, where it leaves."""
    if leaves is None:
        return
    floor = axis.get_ylim()[0]
    shown = estimated(part, quantity.column).groupby(part["size"]).mean()
    if len(known := shown.dropna()):
        axis.plot([known.index[-1], leaves], [known.iloc[-1], floor], ":", color=look.color, linewidth=1.6)
    axis.plot(leaves, floor, "x", color=look.color, markersize=8, markeredgewidth=2, clip_on=False)
    axis.set_ylim(bottom=floor)


def _followed(axis: Axes, part: pd.DataFrame, quantity: Quantity, look: Look, aside: float) -> None:
    """The means of one minimum over its landscapes; of two seeds their range."""
    sizes: list[float] = []
    found: list[pd.Series] = []
    for size, group in part[estimated(part, quantity.column).notna()].groupby("size"):
        sizes.append(aside * float(size))
        found.append(means(group, quantity.column, possible(quantity.column)).iloc[0])
    axis.errorbar(
        sizes,
        [row["mean"] for row in found],
        yerr=np.array([(row["below"], row["above"]) for row in found], dtype=float).reshape(-1, 2).T,
        color=look.color,
        marker=look.marker,
        markersize=7,
        elinewidth=1.2,
        capsize=3,
        label=f"{x_of(part).iloc[0]:,.0f}",
    )
    one_sided(axis, part, quantity.column, aside * part["size"])


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
    bound = inside["lower"].where(inside["log_mass"].isna(), np.nan)
    if bound.notna().any():
        bounds(top, inside["size"][bound.notna()], bound.dropna(), "up", Look(BLUE, "o", "-"), "lower limit alone")
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
    top.set(ylabel=MASS.label, title=f"{name}\nsigma {sigma:g}, loss threshold {threshold:g}")
    bottom.set(ylabel="mean loss", yscale="log")
    size_axis(bottom, across["size"], LANDSCAPE_AXIS)
    handles = {
        label: handle for axis in (top, bottom) for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2)
    return figure
