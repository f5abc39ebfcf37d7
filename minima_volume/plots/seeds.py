"""Figures over many seeds: means with intervals, single seeds thin, the native minimum ringed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minima_volume.analysis.designs import unit
from minima_volume.analysis.quantities import (
    AXIS_LABELS,
    STAR,
    bounded,
    estimated,
    kind_of,
    measured,
    x_of,
)
from minima_volume.plots.marks import bounds, looks_of, ring
from minima_volume.plots.panels import (
    bars_text,
    data_axis,
    marker_legend,
    mean_with_interval,
    means,
    notes,
    over_seeds,
    panel_title,
    seeds_of,
    shared_legend,
    single_seeds,
    subject_of,
    thousands,
    title_of,
    volume_panels,
)
from minima_volume.plots.style import GREEN, caption, new_figure, plain_log, styled


@styled
def mass_against_data(rows: pd.DataFrame) -> Figure:
    """The volume of every minimum of one landscape against what it was trained on: Gaussian local volume, then published number.

    Args:
        rows: one landscape at one threshold, from `analysis.select`. Without `log_mass` there is the panel of the published number alone.
    """
    quantities = measured(rows)
    figure, axes = volume_panels(quantities)
    for axis, quantity in zip(axes, quantities, strict=True):
        over_seeds(axis, rows, quantity)
        axis.set(ylabel=quantity.label, title=panel_title(rows, quantity))
        data_axis(axis, rows)
    shared_legend(figure, axes, title_of(rows))
    caption(figure, "\n".join(notes(rows)))
    return figure


@styled
def volume_against_data(rows: pd.DataFrame) -> Figure:
    """The published number of every minimum of one landscape against what it was trained on."""
    figure, axes = volume_panels([STAR])
    over_seeds(axes[0], rows, STAR)
    axes[0].set(ylabel=STAR.label)
    data_axis(axes[0], rows)
    shared_legend(figure, axes, title_of(rows))
    caption(figure, "\n".join(notes(rows, [STAR])))
    return figure


@styled
def loss_against_volume(rows: pd.DataFrame) -> Figure:
    """Test loss against volume: one colour and marker per minimum, single seeds small, means with the intervals of both."""
    figure = _against_volume(rows, "test_loss", "test loss")
    figure.axes[0].set_yscale("log")
    plain_log(figure.axes[0].yaxis)
    return figure


@styled
def accuracy_against_volume(rows: pd.DataFrame) -> Figure:
    """Test accuracy against volume: one colour and marker per minimum, single seeds small, means with the intervals of both."""
    return _against_volume(rows, "test_accuracy", "test accuracy")


def _against_volume(rows: pd.DataFrame, column: str, label: str) -> Figure:
    quantities = measured(rows)
    figure, axes = volume_panels(quantities, sharey=True)
    for axis, quantity in zip(axes, quantities, strict=True):
        axis.set(xlabel=quantity.label, title=panel_title(rows, quantity))
        axis.xaxis.set_major_locator(MaxNLocator(5))
        thousands(axis.xaxis, rows[quantity.column])
        across, up = means(rows, quantity.column).set_index("x"), means(rows, column).set_index("x")
        for x, look in looks_of(rows).items():
            part = rows[x_of(rows) == x]
            axis.plot(estimated(part, quantity.column), part[column], **look.point, markersize=4)
            if quantity is STAR and len(limits := part["log_volume_lower"][bounded(part, STAR.column)]):
                bounds(axis, limits, part.loc[limits.index, column], "right", look)
            if part["native"].any() and np.isfinite(across["mean"][x]):
                ring(axis, across["mean"][x], up["mean"][x], None)
            axis.errorbar(
                across["mean"][x],
                up["mean"][x],
                xerr=across.loc[[x], ["below", "above"]].T,
                yerr=up.loc[[x], ["below", "above"]].T,
                fmt=look.marker,
                color=look.color,
                markersize=8,
                markeredgecolor="white",
                elinewidth=1.2,
                capsize=3,
                label=f"{x:,.0f}",
            )
    axes[0].set_ylabel(label)
    marker_legend(figure, axes[0], AXIS_LABELS[kind_of(rows)], native=bool(rows["native"].any()))
    figure.suptitle(title_of(rows), fontsize=10.5)
    one = unit(rows)
    what = f"means over {one}s" + (" (of test loss: geometric)" if column == "test_loss" else "")
    bars = bars_text(rows, [*(q.column for q in quantities), column], ", bars: ")
    explained = f"large: {what}{bars}; small: single {one}s" if rows["run"].nunique() > 1 else ""
    caption(figure, "\n".join(filter(None, [explained, *notes(rows, [STAR])])))
    return figure


@styled
def accuracy_against_data(rows: pd.DataFrame) -> Figure:
    """Test accuracy against what each model was trained on."""
    figure = new_figure(6.4, 4.0)
    axis = figure.subplots()
    single_seeds(axis, rows, "test_accuracy", GREEN)
    mean_with_interval(axis, rows, "test_accuracy", GREEN, marked=True)
    axis.set(ylabel="test accuracy")
    data_axis(axis, rows)
    shared_legend(figure, [axis], f"{subject_of(rows)}test accuracy, {seeds_of(rows)}")
    return figure
