"""Figures of a robustness study: accuracy under noise, drops, layer profile, volume beside robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minima_volume.plots.style import BLUE, GREY, ORANGE, caption, new_figure, styled

COLORS = {"clean": BLUE, "noisy": ORANGE}
LABELS = {"clean": "trained clean", "noisy": "trained under noise"}
MARKS: dict[str, dict[str, Any]] = {
    "clean": {"marker": "o", "markersize": 7},
    "noisy": {"marker": "s", "markersize": 4},
}  # both seen where they agree
ALPHA = "noise alpha"
BAND = "line: mean over seeds and draws\nband: from the smallest to the largest mean of a seed, and its deviation over draws"


@styled
def accuracy_under_noise(results: Mapping[str, Any]) -> Figure:
    """Accuracy against alpha, a panel per architecture, with bands over seeds and draws.

    Args:
        results: results.json of a study.
    """
    rows = pd.DataFrame(results["sweep"])
    names = list(dict.fromkeys(rows["architecture"]))
    figure = new_figure(max(6.4, 4.2 * len(names) + 0.8), 4.3)
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        for regime, color in COLORS.items():
            _band(axis, rows[(rows["architecture"] == name) & (rows["regime"] == regime)], regime, color)
        _alpha_axis(axis, sorted(rows.loc[rows["architecture"] == name, "alpha_test"].unique()))
        axis.set(title=name)
    axes[0].set_ylabel("test accuracy")
    lines = {str(line.get_label()): line for axis in axes for line in axis.get_lines()}  # one of another panel, too
    axes[-1].legend(lines.values(), lines.keys(), loc="lower left")
    figure.suptitle(f"{_data(rows)}\nnoise on weights: alpha times each tensor's standard deviation", fontsize=10.5)
    caption(figure, BAND)
    return figure


def _band(axis: Axes, rows: pd.DataFrame, regime: str, color: str) -> None:
    if rows.empty:
        return
    spread = rows.assign(low=rows["acc"] - rows["acc_std"], high=rows["acc"] + rows["acc_std"])
    grouped = spread.groupby("alpha_test").agg(mean=("acc", "mean"), low=("low", "min"), high=("high", "max"))
    axis.fill_between(grouped.index, grouped["low"], grouped["high"], color=color, alpha=0.2, linewidth=0)
    axis.plot(
        grouped.index,
        grouped["mean"],
        color=color,
        label=LABELS[regime],
        **MARKS[regime],
    )
    if rows["recalibrated"].all():
        mean = rows.groupby("alpha_test")["acc_recalibrated"].mean()
        axis.plot(mean.index, mean, color=color, linestyle="--", label=f"{LABELS[regime]}, BatchNorm recalibrated")


def _alpha_axis(axis: Axes, alphas: Sequence[float]) -> None:
    """Linear up to the smallest positive alpha, then logarithmic."""
    positive = [alpha for alpha in alphas if alpha > 0]
    axis.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
    axis.set_xlim(-0.2 * positive[0], positive[-1] * 1.15)
    room: list[float] = []
    for alpha in alphas:
        if not room or room[-1] == 0 or alpha / room[-1] > 1.4:
            room.append(alpha)
    axis.set_xticks(room, [f"{alpha:g}" for alpha in room])
    axis.set_xticks([], minor=True)
    axis.set_xlabel(ALPHA)


def _data(rows: pd.DataFrame) -> str:
    seeds = rows["seed"].nunique()
    return f"{rows['dataset'].iloc[0]}, {rows['test_images'].max():,} test images, {seeds} seed{'s' * (seeds > 1)}"


@styled
def drops(results: Mapping[str, Any]) -> Figure:
    """Mean drop at alpha 0.1 per architecture and regime with its 95 % interval, and noisy minus clean.

    Args:
        results: results.json of a study.
    """
    means, verdicts = results["mean_drops"], results["verdicts"]
    names = list(dict.fromkeys(row["architecture"] for row in means))
    figure = new_figure(9.2, 3.9)
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [3, 2]})
    for offset, (regime, color) in zip((-0.19, 0.19), COLORS.items(), strict=True):
        some = [row for row in means if row["regime"] == regime]
        x = [names.index(row["architecture"]) + offset for row in some]
        left.bar(x, [row["drop"]["mean"] for row in some], width=0.36, color=color, alpha=0.75, label=LABELS[regime])
        _intervals(left, x, [row["drop"] for row in some], "black")
    x = [names.index(row["architecture"]) for row in verdicts]
    paired = [next(one["drop"] for one in row["alphas"] if one["alpha"] == 0.1) for row in verdicts]
    right.plot(x, [one["mean"] for one in paired], "o", color="black")
    _intervals(right, x, paired, "black")
    for place, row, one in zip(x, verdicts, paired, strict=True):
        word = "resolved" if row["resolved"] else "not resolved"
        right.annotate(word, (place, one["high"]), (0, 5), textcoords="offset points", ha="center", fontsize=8.5)
    right.margins(y=0.2)
    for axis in (left, right):
        axis.axhline(0, color=GREY, linewidth=0.8)
        axis.set_xticks(range(len(names)), names)
        axis.set_xlim(-0.6, len(names) - 0.4)
        axis.grid(False, axis="x")
    left.set(ylabel="accuracy lost at alpha 0.1", title="drop; bar: 95 % interval")
    family = f"\nresolved: after Holm's procedure over all {len(verdicts)}" if len(verdicts) > 1 else ""
    right.set(title=f"drop, noisy minus clean, paired{family}")
    left.legend()
    figure.suptitle(_data(pd.DataFrame(results["summary"])), fontsize=10.5)
    return figure


def _intervals(axis: Axes, x: Sequence[float], estimates: Sequence[Mapping[str, Any]], color: str) -> None:
    mean = np.array([one["mean"] for one in estimates])
    ends = np.array([[one["mean"] - one["low"], one["high"] - one["mean"]] for one in estimates]).reshape(-1, 2).T
    axis.errorbar(x, mean, yerr=ends, fmt="none", color=color, capsize=4, elinewidth=1.3)


@styled
def layer_profile(results: Mapping[str, Any], architecture: str) -> Figure:
    """log P[accuracy >= a] with one tensor perturbed, and with all but one, for the clean and the noisy network.

    Args:
        results: results.json of a study with `layers`.
        architecture: which.
    """
    rows = [row for row in results["layers"] if row["architecture"] == architecture]
    tensors = list(dict.fromkeys(row["tensor"] for row in rows))
    figure = new_figure(9.4, 0.55 * len(tensors) + 2.4)
    axes = figure.subplots(1, 2, sharey=True, squeeze=False)[0]
    for axis, part, title in zip(axes, ("only", "without"), ("this tensor alone", "all but this tensor"), strict=True):
        for offset, (regime, color) in zip((-0.12, 0.12), COLORS.items(), strict=True):
            some = [row for row in rows if row["part"] == part and row["regime"] == regime]
            for row in some:
                _horizontal(axis, row, tensors.index(row["tensor"]) + offset, regime)
            axis.plot([], [], linestyle="", color=color, label=LABELS[regime], **MARKS[regime])
        axis.set(xlabel=f"log P[accuracy >= {rows[0]['accuracy']:g}]", title=f"noise on {title}")
        axis.xaxis.set_major_locator(MaxNLocator(5))
    axes[0].set_yticks(range(len(tensors)), tensors)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(
        f"{architecture}, alpha {rows[0]['alpha']:g}, {rows[0]['subset']:,} test images; bar: 95 % interval",
        fontsize=10.5,
    )
    return figure


def _horizontal(axis: Axes, row: Mapping[str, Any], y: float, regime: str) -> None:
    color = COLORS[regime]
    low, high, value = row["lower"], row["upper"], row["log_mass"]
    if low is not None and high is not None:
        axis.plot([low, high], [y, y], color=color, linewidth=2)
    if value is not None:
        axis.plot(value, y, color=color, **MARKS[regime])
    elif (limit := high if low is None else low) is not None:
        axis.plot(limit, y, "<" if low is None else ">", color=color)


@styled
def volume_beside_robustness(results: Mapping[str, Any], architecture: str) -> Figure:
    """Accuracy against alpha, and log P[accuracy >= a | alpha] against alpha, of the clean and the noisy network.

    Args:
        results: results.json of a study with `volumes`.
        architecture: which.
    """
    volumes = pd.DataFrame([row for row in results["volumes"] if row["architecture"] == architecture])
    sweep = pd.DataFrame(results["sweep"])
    sweep = sweep[(sweep["architecture"] == architecture) & (sweep["seed"] == volumes["seed"].iloc[0])]
    figure = new_figure(10.2, 4.2)
    left, right = figure.subplots(1, 2)
    for regime, color in COLORS.items():
        _band(left, sweep[sweep["regime"] == regime], regime, color)
        some = volumes[volumes["regime"] == regime]
        for style, accuracy in zip(
            ("-", "--", ":", "-."), sorted(volumes["accuracy"].unique(), reverse=True), strict=False
        ):
            _profile(
                right,
                some[some["accuracy"] == accuracy].sort_values("alpha"),
                regime,
                style,
                f"{LABELS[regime]}, a = {accuracy:g}",
            )
    for accuracy in volumes["accuracy"].unique():
        left.axhline(accuracy, color=GREY, linewidth=0.8, linestyle=":")
    _alpha_axis(left, sorted(sweep["alpha_test"].unique()))
    arrows = "\narrow: limit of what has no estimate" if volumes["log_mass"].isna().any() else ""
    left.set(ylabel="test accuracy", title=f"robustness, {_data(sweep)}")
    left.legend(loc="lower left")
    right.set(
        xlabel=ALPHA,
        ylabel="log P[accuracy >= a | alpha]",
        title=f"volume, {volumes['subset'].iloc[0]:,} of them; bar: 95 % interval{arrows}",
    )
    right.legend(loc="lower left")
    figure.suptitle(f"{architecture}, training seed {volumes['seed'].iloc[0]}", fontsize=10.5)
    return figure


def _profile(axis: Axes, rows: pd.DataFrame, regime: str, style: str, label: str) -> None:
    color = COLORS[regime]
    known = rows.dropna(subset=["log_mass"])
    axis.plot(known["alpha"], known["log_mass"], linestyle=style, color=color, label=label, **MARKS[regime])
    both = rows.dropna(subset=["lower", "upper"])
    axis.vlines(both["alpha"], both["lower"], both["upper"], color=color, linewidth=2, alpha=0.5)
    for end, marker in (("upper", "v"), ("lower", "^")):  # of what has no value, towards where it may be
        bounded = rows[rows["log_mass"].isna() & rows[end].notna()]
        axis.plot(bounded["alpha"], bounded[end], marker, color=color)
