"""Figures that set things side by side: conditions (SAM and its baseline), and the two ways to measure a volume."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from minima_volume.analysis.aggregates import order_table
from minima_volume.analysis.designs import unit
from minima_volume.analysis.quantities import (
    AXIS_LABELS,
    MASS,
    STAR,
    bounded,
    estimated,
    kind_of,
    left_out,
    measured,
    with_estimates,
    x_of,
)
from minima_volume.numerals import fixed
from minima_volume.plots.marks import Look, looks_of, ring
from minima_volume.plots.panels import (
    data_axis,
    mean_of,
    mean_with_interval,
    one_sided,
    panel_title,
    seeds_of,
    set_aside,
    shared_legend,
    single_seeds,
    thousands,
    title_of,
)
from minima_volume.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    caption,
    new_figure,
    plain_log,
    styled,
)

SERIES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (RED, "v"), (SKY, "P"))


@styled
def conditions_against_data(conditions: Mapping[str, pd.DataFrame]) -> Figure:
    """Volumes, and test loss, of several conditions against what their minima were trained on.

    Args:
        conditions: name -> one landscape at one threshold of that condition, from `analysis.select`. Volumes are comparable where
            landscape size, threshold, sigma and architecture agree.
    """
    everything = pd.concat(conditions.values())
    quantities = measured(everything)
    figure = new_figure(4.6 * (len(quantities) + 1), 4.2)
    panels = [(q.column, q.label, panel_title(everything, q)) for q in quantities]
    panels.append(("test_loss", "test loss", "generalisation"))
    axes = list(figure.subplots(1, len(panels)))
    for axis, (column, label, title) in zip(axes, panels, strict=True):
        absent = [name for name, rows in conditions.items() if rows[column].isna().all()]
        if absent:
            title += f"\nnot measured: {', '.join(absent)}"
        for i, ((color, marker), (name, rows)) in enumerate(zip(SERIES, conditions.items(), strict=False)):
            single_seeds(axis, rows, column, color, Look(color, marker, "-"))
            mean_with_interval(
                axis,
                rows,
                column,
                color,
                f"{name} ({seeds_of(rows)})",
                aside=set_aside(x_of(everything), i, len(conditions), 0.014),
                marker=marker,
            )
        axis.set(ylabel=label, title=title)
        data_axis(axis, everything)
        if column != "test_loss":
            thousands(axis.yaxis, everything[column])
    axes[-1].set_yscale("log")
    plain_log(axes[-1].yaxis)
    titles = dict.fromkeys(title_of(rows).rpartition(",")[0] for rows in conditions.values())
    shared_legend(figure, axes[:1], "\n".join(titles))
    one = "seed" if all(unit(rows) == "seed" for rows in conditions.values()) else "run"
    lines = [
        f"means over {one}s (of test loss: geometric), bars: 95 % interval, of two {one}s their range; thin: single {one}s"
    ]
    sigmas = {
        name: f"{rows['sigma'].dropna().iloc[0]:g}" for name, rows in conditions.items() if rows["sigma"].notna().any()
    }
    if len(set(sigmas.values())) > 1:
        lines.append(
            "Gaussian local volumes of different sigmas cannot be compared: "
            + ", ".join(f"{n} {s}" for n, s in sigmas.items())
        )
    lines += [f"{q.name}: {word}" for q in quantities if (word := left_out(everything, q))]
    caption(figure, "\n".join(lines))
    return figure


@styled
def estimators(rows: pd.DataFrame) -> Figure:
    """The published number of each minimum against its Gaussian local volume: do they agree on what is larger?

    Args:
        rows: one landscape at one threshold, from `analysis.select`, with `log_mass`.
    """
    figure = new_figure(6.8, 4.4)
    axis = figure.subplots()
    x = x_of(rows)
    star = estimated(rows, STAR.column)
    shown = star.fillna(rows["log_volume_lower"].astype(float).where(bounded(rows, STAR.column)))
    for value, look in looks_of(rows).items():
        part = (x == value) & star.notna()
        style = {**look.point, "markersize": 8, "markeredgecolor": "white"}
        axis.plot(rows.loc[part, MASS.column], star[part], **style, label=f"{value:,.0f}")
    one_sided(axis, rows, STAR.column, rows[MASS.column])
    native = rows[rows["native"]]
    ring(axis, native[MASS.column], shown[native.index], "native" if len(native) else None)
    ordered = rows.assign(**{STAR.column: star}).sort_values(["run", MASS.column])
    breaks = np.flatnonzero(np.diff(pd.factorize(ordered["run"])[0])) + 1
    joined = [np.insert(ordered[q.column].to_numpy(dtype=float), breaks, np.nan) for q in (MASS, STAR)]
    axis.plot(*joined, color=GREY, linewidth=0.8, zorder=0)
    names = {MASS: "Gaussian", STAR: "published number"}
    rho = [f"{fixed(order_table(rows, q.column)['spearman_data'].mean())} ({names[q]})" for q in with_estimates(rows)]
    axis.set(
        xlabel=f"Gaussian local volume, {MASS.label}",
        ylabel=f"published number,\n{STAR.label}",
    )
    correlation = (
        f"\n{mean_of(rows)}Spearman correlation with {AXIS_LABELS[kind_of(rows)]}:\n{', '.join(rho)}" if rho else ""
    )
    figure.suptitle(f"{title_of(rows)}{correlation}", fontsize=10)
    joined_by = (
        f"grey: the minima of one {unit(rows)}; where it rises, both agree on what is larger"
        if star.notna().any()
        else ""
    )
    word = left_out(rows, STAR).replace(": ", ":\n")
    caption(figure, "\n".join(filter(None, [joined_by, word])))
    thousands(axis.yaxis, rows[STAR.column])
    axis.legend(title=AXIS_LABELS[kind_of(rows)], loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure
