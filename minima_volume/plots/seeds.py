"""Figures over many seeds: mean and spread, single seeds faint, the native minimum marked."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minima_volume.plots.style import (
    AXIS_LABELS,
    BLUE,
    GREEN,
    GREY,
    MARKERS,
    RED,
    level_colors,
    new_figure,
    plain_log,
    size_axis,
    styled,
)

VOLUME = "log volume of the star region (nats)"


@styled
def volume_against_data(rows: pd.DataFrame) -> Figure:
    """Log-volume of every minimum of one landscape against the samples it was trained on.

    Args:
        rows: one landscape at one threshold, from `analysis.select`.
    """
    figure = new_figure(6.4, 4.2)
    axis = figure.subplots()
    mean_and_spread(axis, rows, "log_volume", BLUE)
    native = rows[rows["native"]]
    if len(native):
        axis.plot(
            native["train_size"].mean(),
            native["log_volume"].mean(),
            "*",
            color=RED,
            markersize=17,
            zorder=5,
            label="native minimum",
        )
    axis.set(ylabel=VOLUME, title=title_of(rows))
    size_axis(axis, x_of(rows), AXIS_LABELS[rows["variation"].iloc[0]])
    figure.legend(loc="outside upper center", ncols=2)
    _note(figure, rows)
    return figure


@styled
def loss_against_volume(rows: pd.DataFrame) -> Figure:
    """Test loss against log-volume: one colour a level, single seeds faint, means with the spread of both."""
    figure = new_figure(6.8, 4.2)
    axis = figure.subplots()
    levels = sorted(rows["level"].unique())
    for i, (color, level) in enumerate(zip(level_colors(len(levels)), levels, strict=True)):
        part = rows[(rows["level"] == level) & rows["log_volume"].notna()]
        if part.empty:
            continue
        marker = MARKERS[i % len(MARKERS)]
        axis.plot(part["log_volume"], part["test_loss"], marker, color=color, alpha=0.3, markersize=5)
        native = bool(part["native"].any())
        axis.errorbar(
            part["log_volume"].mean(),
            part["test_loss"].mean(),
            xerr=_spread(part["log_volume"]),
            yerr=_spread(part["test_loss"]),
            fmt=marker,
            color=color,
            markersize=12 if native else 8,
            markeredgecolor=RED if native else color,
            markeredgewidth=2 if native else 1,
            capsize=3,
            label=f"{x_of(part).iloc[0]}" + (" (native)" if native else ""),
        )
    axis.set(xlabel=VOLUME, ylabel="test loss", yscale="log", title=title_of(rows))
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.legend(title=AXIS_LABELS[rows["variation"].iloc[0]], loc="center left", bbox_to_anchor=(1.02, 0.5))
    plain_log(axis.yaxis)
    _note(figure, rows)
    return figure


@styled
def accuracy_against_data(rows: pd.DataFrame) -> Figure:
    """Test accuracy against the samples each model was trained on."""
    figure = new_figure(6.4, 4.0)
    axis = figure.subplots()
    mean_and_spread(axis, rows, "test_accuracy", GREEN)
    axis.set(ylabel="test accuracy", title=f"{rows['run'].nunique()} seeds")
    size_axis(axis, x_of(rows), AXIS_LABELS[rows["variation"].iloc[0]])
    figure.legend(loc="outside upper center")
    return figure


def x_of(rows: pd.DataFrame) -> pd.Series:
    """Training samples, or the epoch or batch size in a series on one data set."""
    return rows["train_size"] if rows["variation"].iloc[0] == "level" else rows["level"]


def mean_and_spread(axis: Axes, rows: pd.DataFrame, column: str, color: str) -> None:
    for _, run in rows.groupby("run"):
        axis.plot(x_of(run), run[column], color=color, alpha=0.3, linewidth=0.9)
    grouped = rows.groupby(x_of(rows))[column]
    axis.errorbar(
        grouped.mean().index,
        grouped.mean(),
        yerr=grouped.std().fillna(0.0),
        color=color,
        marker="o",
        capsize=3,
        label=f"mean ± standard deviation, {rows['run'].nunique()} seeds",
    )


def _spread(values: pd.Series) -> float:
    return 0.0 if len(values) < 2 else float(values.std())


def title_of(rows: pd.DataFrame) -> str:
    extra = rows["level"] if rows["variation"].iloc[0] == "level" else rows["landscape"]
    size = int((rows["train_size"] - extra + rows["landscape"]).iloc[0])
    return f"landscape of {size} samples, loss threshold {rows['threshold'].iloc[0]:g}, {rows['run'].nunique()} seeds"


def _note(figure: Figure, rows: pd.DataFrame) -> None:
    """How far to trust the numbers, under the figure."""
    effective = rows["effective_sample_size"].median()
    outside = int(rows["log_volume"].isna().sum())
    lines = [f"median effective sample size {effective:.1f} of {rows['num_directions'].min()} directions"]
    inside, estimates = int(rows["log_volume"].notna().sum()), int(rows["log_volume_upper"].notna().sum())
    if estimates < inside:
        which = "each value is a lower bound" if not estimates else f"{inside - estimates} of {inside} are lower bounds"
        lines.append(f"{which} set by the largest directions")
    if outside:
        lines.append(f"{outside} minima are outside the landscape and not shown")
    figure.supxlabel("\n".join(lines), color=GREY, fontsize=8.5)
