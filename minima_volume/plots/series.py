"""Figures of a series of trainings: sparsity against reconstruction, rate against distortion, and log mass along the series."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minima_volume.plots.style import BLUE, ORANGE, new_figure, styled

# columns and labels of the two axes, by a column that only tables of this kind of model have
CURVES = {
    "normalized_mse": (("l0", "active atoms per sample"), ("normalized_mse", "squared error / squared norm")),
    "kl": (("kl", "KL, nats per sample"), ("reconstruction", "reconstruction, nats per sample")),
}
WIDE = 10.0  # largest value / smallest, from which an axis is logarithmic


@styled
def series_figure(table: pd.DataFrame) -> Figure:
    """What a series trades for what; with volumes, a second panel of log mass along the series.

    Args:
        table: from `tabulate_series`; its first column is the setting.
    """
    key = str(table.columns[0])
    masses = "log_mass" in table
    figure = new_figure(8.6 if masses else 4.6, 3.6)
    axes = figure.subplots(1, 2 if masses else 1, squeeze=False)[0]
    x, y = next((CURVES[name] for name in CURVES if name in table), ((key, key), ("loss", "loss")))
    _trade(axes[0], table, x, y)
    if masses:
        _masses(axes[1], table, key)
    return figure


def _trade(axis: Axes, table: pd.DataFrame, x: tuple[str, str], y: tuple[str, str]) -> None:
    key = str(table.columns[0])
    ordered = table.sort_values(x[0])
    axis.plot(ordered[x[0]], ordered[y[0]], "o-", color=BLUE)
    for value, at, height in zip(ordered[key], ordered[x[0]], ordered[y[0]], strict=True):
        axis.annotate(f"{value:g}", (at, height), xytext=(5, 5), textcoords="offset points", fontsize=9)
    axis.set(xlabel=x[1], ylabel=y[1], title=f"{key} beside each point")
    axis.margins(0.12)


def _masses(axis: Axes, table: pd.DataFrame, key: str) -> None:
    """Estimates with their intervals; what is only bounded is an arrow from the bound."""
    for value, mass, low, high in table[[key, "log_mass", "log_mass_low", "log_mass_high"]].astype(float).to_numpy():
        known = [math.isfinite(limit) for limit in (low, high)]
        if all(known) and math.isfinite(mass):
            axis.errorbar(value, mass, [[mass - low], [high - mass]], fmt="o", color=ORANGE, capsize=3)
        elif any(known):
            axis.plot(value, low if known[0] else high, "^" if known[0] else "v", color=ORANGE, markerfacecolor="none")
    values = table[key].to_numpy(dtype=float)
    if values.min() > 0 and values.max() / values.min() > WIDE:
        axis.set_xscale("log")
        axis.set_xticks(values, [f"{value:g}" for value in values])
        axis.minorticks_off()
    sigma = float(table["sigma"].iloc[0])
    axis.set(xlabel=key, ylabel="log mass", title=f"Gaussian local volume, sigma {sigma:g}")
