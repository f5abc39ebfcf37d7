"""Figures of orders: average ranks over seeds, and differences within seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minima_volume.analysis.aggregates import add_ranks, aggregate, order_table, paired_differences
from minima_volume.analysis.designs import unit
from minima_volume.analysis.quantities import (
    AXIS_LABELS,
    MORE,
    axis_point,
    estimated,
    kind_of,
    left_out,
    measured,
    with_estimates,
    x_of,
)
from minima_volume.analysis.statistics import FEWEST
from minima_volume.numerals import fixed
from minima_volume.plots.marks import looks_of, ring
from minima_volume.plots.panels import (
    bars_of,
    bars_text,
    data_axis,
    mean_of,
    mean_with_interval,
    panel_title,
    set_aside,
    shared_legend,
    thousands,
    title_of,
    volume_panels,
)
from minima_volume.plots.style import GREY, QUANTITY_COLORS, RED, caption, new_figure, styled


@styled
def ranks_against_data(rows: pd.DataFrame) -> Figure:
    """Average rank of each minimum by volume within its seed (1 = largest) against what it was trained on.

    Args:
        rows: one landscape at one threshold, from `analysis.select`; some quantity has estimates of two minima or more.
    """
    figure = new_figure(6.6, 4.3)
    axis = figure.subplots()
    x = sorted(set(x_of(rows)))
    axis.plot(x, np.arange(1, len(x) + 1), ":", color=GREY, label=f"more {MORE[kind_of(rows)]}, smaller volume")
    quantities = with_estimates(rows)
    for i, quantity in enumerate(quantities):
        ranked = rows.assign(rank=add_ranks(rows, quantity.column))
        color, aside = QUANTITY_COLORS[quantity.column], set_aside(x_of(rows), i, len(quantities), 0.014)
        mean_with_interval(axis, ranked, "rank", color, quantity.name, limits=(1, len(x)), aside=aside, marker="os"[i])
    axis.set(ylabel="average rank by volume (1 = largest)", ylim=(len(x) + 0.5, 0.5))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    data_axis(axis, rows)
    shared_legend(figure, [axis], title_of(rows), ncols=2)
    bars = bars_text(rows, [quantity.column for quantity in quantities])
    caption(figure, _explained(rows, f"means over {unit(rows)}s{bars}"))
    return figure


@styled
def loss_ranks_against_volume_ranks(rows: pd.DataFrame) -> Figure:
    """Average rank by test loss against average rank by volume, of estimates; single seeds small; 1 = largest is above and to the right."""
    quantities = with_estimates(rows)
    figure, axes = volume_panels(quantities, sharey=True)
    count = len(set(x_of(rows)))
    for axis, quantity in zip(axes, quantities, strict=True):
        ranked = rows.assign(volume_rank=add_ranks(rows, quantity.column), loss_rank=add_ranks(rows, "test_loss"))
        across, up = (aggregate(ranked, name).set_index("x")["mean"] for name in ("volume_rank", "loss_rank"))
        axis.plot([1, count], [1, count], ":", color=GREY)
        for x, look in looks_of(rows).items():
            part = ranked[x_of(ranked) == x]
            axis.plot(part["volume_rank"], part["loss_rank"], **look.point, markersize=4)
            axis.plot(across[x], up[x], **look.point, markersize=9, markeredgecolor="white", label=f"{x:,.0f}")
        native = x_of(rows)[rows["native"]].unique()
        ring(axis, across.reindex(native), up.reindex(native), "native" if len(native) else None)
        rho = order_table(rows, quantity.column)["spearman_loss"].mean()
        axis.set(
            xlabel=f"average rank by {quantity.noun} (1 = largest)",
            title=f"{quantity.name}\n{mean_of(rows)}Spearman correlation {fixed(rho)}",
            xlim=(count + 0.5, 0.5),
            ylim=(count + 0.5, 0.5),
        )
        for one in (axis.xaxis, axis.yaxis):
            one.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel("average rank by test loss (1 = largest)")
    figure.legend(*axes[0].get_legend_handles_labels(), title=AXIS_LABELS[kind_of(rows)], loc="outside right center")
    figure.suptitle(title_of(rows), fontsize=10.5)
    explained = _explained(
        rows, f"small: single {unit(rows)}s", "dotted: the same order by both; right and above: the largest"
    )
    caption(figure, explained)
    return figure


def _explained(rows: pd.DataFrame, over_seeds: str, always: str = "") -> str:
    """The text under a figure: about several seeds, in any case, and about the numbers that it leaves out."""
    absent = [f"{q.name}: {word}" for q in measured(rows) if (word := left_out(rows, q))]
    about = [over_seeds if rows["run"].nunique() > 1 else "", always]
    return "\n".join(filter(None, ["; ".join(filter(None, about)), *absent]))


@styled
def differences(rows: pd.DataFrame) -> Figure:
    """The reference minimum minus every other, seed by seed: above 0 the reference is the larger one.

    The reference is the native minimum; in a series the one of the smallest epoch or batch size.
    """
    quantities = with_estimates(rows)
    figure, axes = volume_panels(quantities)
    counts: list[int] = []
    for axis, quantity in zip(axes, quantities, strict=True):
        table, color = paired_differences(rows, quantity.column), QUANTITY_COLORS[quantity.column]
        placed = rows.assign(x=x_of(rows), value=estimated(rows, quantity.column))
        reference = placed[placed["native"]] if placed["native"].any() else placed
        reference = reference[reference["x"] == reference["x"].min()].set_index("run")["value"]
        others = placed[placed["x"].isin(table["x"])]
        minus = others["run"].map(reference).to_numpy(dtype=float) - others["value"].to_numpy(dtype=float)
        axis.plot(others["x"], minus, ".", color=color, markersize=4)
        spans = others.assign(minus=minus).groupby("x")["minus"]
        counts += table["seeds"].tolist()
        few = table["seeds"] < FEWEST  # the interval of two values says nothing: their range
        lower, upper = table["lower"].astype(float), table["upper"].astype(float)
        lower, upper = lower.mask(few, table["x"].map(spans.min())), upper.mask(few, table["x"].map(spans.max()))
        ends = [(table["mean"] - lower).fillna(0.0).clip(lower=0), (upper - table["mean"]).fillna(0.0).clip(lower=0)]
        axis.errorbar(table["x"], table["mean"], yerr=ends, fmt="none", ecolor=color, capsize=3, elinewidth=1.2)
        found = looks_of(rows)
        for x, mean, clear in zip(table["x"], table["mean"], table["clear"], strict=True):
            axis.plot(x, mean, **found[x].point, markerfacecolor=found[x].color if clear else "white", markersize=8)
        axis.axhline(0, color=RED, linewidth=1)
        thousands(axis.yaxis, pd.Series([*minus, *lower, *upper], dtype=float))
        axis.set(ylabel=f"difference of {quantity.noun} (nats)", title=panel_title(rows, quantity))
        data_axis(axis, rows[placed["x"].isin(table["x"])] if len(table) else rows)
    reference = x_of(rows)[rows["native"]] if rows["native"].any() else x_of(rows)
    figure.suptitle(
        f"{title_of(rows)}\nreference minus others; reference: {axis_point(kind_of(rows), reference.min())}",
        fontsize=10,
    )
    bars = bars_of(counts, unit(rows))
    bars = f"; bars: {bars.replace('interval', 'interval of each mean alone')}" if bars else ""
    over = f"dots: {unit(rows)}s{bars}; filled: clear over all points of its panel (Holm)"
    caption(figure, _explained(rows, over))
    return figure
