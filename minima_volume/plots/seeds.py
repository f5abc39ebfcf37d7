"""Figures over many seeds: means with intervals, single seeds faint, the native minimum marked."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minima_volume.analysis.quantities import (
    AXIS_LABELS,
    STAR,
    bounded,
    estimated,
    kind_of,
    measured,
    x_of,
)
from minima_volume.plots.panels import (
    data_axis,
    marker_legend,
    mean_with_interval,
    means,
    notes,
    over_seeds,
    panel_title,
    shared_legend,
    single_seeds,
    thousands,
    title_of,
    volume_panels,
)
from minima_volume.plots.style import (
    GREEN,
    GREY,
    MARKERS,
    RED,
    level_colors,
    new_figure,
    plain_log,
    styled,
)


@styled
def mass_against_data(rows: pd.DataFrame) -> Figure:
    """The volume of every minimum of one landscape against what it was trained on: Gaussian local volume, then published-style number.

    Args:
        rows: one landscape at one threshold, from `analysis.select`. Without `log_mass` there is the published-style panel alone.
    """
    quantities = measured(rows)
    figure, axes = volume_panels(quantities)
    for axis, quantity in zip(axes, quantities, strict=True):
        over_seeds(axis, rows, quantity)
        axis.set(ylabel=quantity.label, title=panel_title(rows, quantity))
        data_axis(axis, rows)
    shared_legend(figure, axes, title_of(rows))
    figure.supxlabel("\n".join(notes(rows)), color=GREY, fontsize=8.5)
    return figure


@styled
def volume_against_data(rows: pd.DataFrame) -> Figure:
    """The published-style log-volume of every minimum of one landscape against what it was trained on."""
    figure, axes = volume_panels([STAR])
    over_seeds(axes[0], rows, STAR)
    axes[0].set(ylabel=STAR.label)
    data_axis(axes[0], rows)
    shared_legend(figure, axes, title_of(rows))
    figure.supxlabel("\n".join(notes(rows, [STAR])), color=GREY, fontsize=8.5)
    return figure


@styled
def loss_against_volume(rows: pd.DataFrame) -> Figure:
    """Test loss against volume: one colour a minimum, single seeds faint, means with the 95 % intervals of both."""
    figure = _against_volume(rows, "test_loss", "test loss")
    figure.axes[0].set_yscale("log")
    plain_log(figure.axes[0].yaxis)
    return figure


@styled
def accuracy_against_volume(rows: pd.DataFrame) -> Figure:
    """Test accuracy against volume: one colour a minimum, single seeds faint, means with the 95 % intervals of both."""
    return _against_volume(rows, "test_accuracy", "test accuracy")


def _against_volume(rows: pd.DataFrame, column: str, label: str) -> Figure:
    quantities = measured(rows)
    figure, axes = volume_panels(quantities, sharey=True)
    for axis, quantity in zip(axes, quantities, strict=True):
        axis.set(xlabel=quantity.label, title=panel_title(rows, quantity))
        axis.xaxis.set_major_locator(MaxNLocator(5))
        thousands(axis.xaxis, rows[quantity.column])
        across, up = means(rows, quantity.column).set_index("x"), means(rows, column).set_index("x")
        for i, (color, x) in enumerate(zip(level_colors(len(across)), across.index, strict=True)):
            part = rows[x_of(rows) == x]
            marker, native = MARKERS[i % len(MARKERS)], bool(part["native"].any())
            axis.plot(estimated(part, quantity.column), part[column], marker, color=color, alpha=0.3, markersize=5)
            limits = part["log_volume_lower"].where(bounded(part, STAR.column)) if quantity is STAR else None
            if limits is not None:
                axis.plot(limits, part[column], color=color, marker=r"$\rightarrow$", linestyle="none", markersize=9)
            axis.errorbar(
                across["mean"][x],
                up["mean"][x],
                xerr=across.loc[[x], ["below", "above"]].T,
                yerr=up.loc[[x], ["below", "above"]].T,
                fmt=marker,
                color=color,
                markersize=11 if native else 8,
                markeredgecolor=RED if native else "white",
                markeredgewidth=2 if native else 0.8,
                elinewidth=1.2,
                capsize=3,
                label=f"{x:,.0f}" + (" (native)" if native else ""),
            )
    axes[0].set_ylabel(label)
    marker_legend(figure, axes[0], AXIS_LABELS[kind_of(rows)])
    figure.suptitle(title_of(rows), fontsize=10.5)
    what = "means over seeds" + (" (of test loss: geometric)" if column == "test_loss" else "")
    explained = f"large: {what} with their 95 % intervals; faint: single seeds" if rows["run"].nunique() > 1 else ""
    figure.supxlabel("\n".join(filter(None, [explained, *notes(rows, [STAR])])), color=GREY, fontsize=8.5)
    return figure


@styled
def accuracy_against_data(rows: pd.DataFrame) -> Figure:
    """Test accuracy against what each model was trained on."""
    figure = new_figure(6.4, 4.0)
    axis = figure.subplots()
    single_seeds(axis, rows, "test_accuracy", GREEN)
    mean_with_interval(axis, rows, "test_accuracy", GREEN)
    axis.set(ylabel="test accuracy")
    data_axis(axis, rows)
    seeds = rows["run"].nunique()
    shared_legend(figure, [axis], f"test accuracy, {seeds} seed{'s' * (seeds > 1)}")
    return figure
