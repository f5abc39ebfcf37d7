"""What figures over seeds share: panels, means with intervals, axes, legends and notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minima_volume.analysis.aggregates import aggregate
from minima_volume.analysis.designs import runs_text, unit
from minima_volume.analysis.quantities import (
    AXIS_LABELS,
    MASS,
    STAR,
    Quantity,
    bounded,
    estimated,
    kind_of,
    measured,
    x_of,
)
from minima_volume.analysis.statistics import FEWEST
from minima_volume.plots.marks import Look, bounds, looks_of, ring, ring_handle
from minima_volume.plots.style import GREY, QUANTITY_COLORS, added_axis, new_figure, size_axis


def volume_panels(quantities: Sequence[Quantity], sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each quantity."""
    figure = new_figure(9.8 if len(quantities) > 1 else 6.6, 4.4)
    return figure, list(figure.subplots(1, len(quantities), squeeze=False, sharey=sharey)[0])


def over_seeds(axis: Axes, rows: pd.DataFrame, quantity: Quantity, color: str | None = None) -> None:
    """Single seeds with their own intervals or bounds, the mean over seeds with its interval, and the native minimum."""
    color = color or QUANTITY_COLORS[quantity.column]
    single_seeds(axis, rows, quantity.column, color)
    low, high, x = rows[f"{quantity.column}_lower"], rows[f"{quantity.column}_upper"], x_of(rows)
    both = low.notna() & high.notna()
    axis.vlines(x[both], low[both], high[both], color=color, linewidth=0.8)
    mean_with_interval(axis, rows, quantity.column, color, marked=True)
    thousands(axis.yaxis, rows[quantity.column])
    native = aggregate(rows[rows["native"]], quantity.column) if rows["native"].any() else pd.DataFrame()
    if len(native) and native["mean"].notna().any():
        ring(axis, native["x"], native["mean"])


def single_seeds(axis: Axes, rows: pd.DataFrame, column: str, color: str, look: Look | None = None) -> None:
    """A thin line per seed through the estimates; what is only a bound is hollow, with an arrow, and not joined.

    Args:
        axis, rows, column, color: what to draw, where.
        look: of all bounds; by default each has that of its minimum.
    """
    placed = rows.assign(x=x_of(rows).astype(float), y=estimated(rows, column)).sort_values(["run", "x"])
    breaks = np.flatnonzero(np.diff(pd.factorize(placed["run"])[0])) + 1  # one line object for all seeds, however many
    x, y = (np.insert(placed[name].to_numpy(dtype=float), breaks, np.nan) for name in ("x", "y"))
    axis.plot(x, y, color=color, linewidth=0.8)
    one_sided(axis, rows, column, x_of(rows), look)


def one_sided(axis: Axes, rows: pd.DataFrame, column: str, x: pd.Series, look: Look | None = None) -> None:
    """Volumes that have one limit alone, each in the look of its minimum, or all in one."""
    known, places, found = bounded(rows, column), x_of(rows), looks_of(rows)
    if not known.any():
        return
    for end, other, way in (("lower", "upper", "up"), ("upper", "lower", "down")):
        alone = known & rows[f"{column}_{end}"].notna() & rows[f"{column}_{other}"].isna()
        for i, place in enumerate(sorted(set(places[alone]))):
            chosen = alone & (places == place)
            label = f"{end} limit alone" if i == 0 else None
            bounds(axis, x[chosen], rows.loc[chosen, f"{column}_{end}"], way, look or found[place], label)


def means(rows: pd.DataFrame, column: str, limits: tuple[float, float] | None = None) -> pd.DataFrame:
    """What is drawn of a column: `aggregate` with `below` and `above`, the lengths of the bars (0 if there is none).

    Bars are 95 % intervals; of two values, whose interval says nothing, they reach from one to the other. Test losses, which span decades
    and are drawn on a logarithmic axis, have geometric means; bars end where values cannot be, at `limits`.
    """
    values = estimated(rows, column)
    if column == "test_loss":
        values = values.where(lambda losses: losses > 0)
        table = aggregate(rows.assign(log_test_loss=np.log(values)), "log_test_loss")
        table[["mean", "lower", "upper"]] = np.exp(table[["mean", "lower", "upper"]].astype(float))
    else:
        table = aggregate(rows, column)
        low, high = limits or (-np.inf, np.inf)
        table["lower"], table["upper"] = table["lower"].clip(low, high), table["upper"].clip(low, high)
    few, spans = table["seeds"] < FEWEST, values.groupby(x_of(rows))
    table.loc[few, "lower"], table.loc[few, "upper"] = table["x"].map(spans.min()), table["x"].map(spans.max())
    below, above = table["mean"] - table["lower"], table["upper"] - table["mean"]
    return table.assign(below=below.fillna(0.0).clip(lower=0), above=above.fillna(0.0).clip(lower=0))


def bars_of(estimates: Iterable[int], one: str = "seed") -> str:
    """What the bars over seeds are, in words; empty where no point has two estimates.

    Args:
        estimates: how many each point has, such as `aggregate`'s column `seeds`.
        one: `designs.unit`.

    >>> bars_of([2, 1]), bars_of([3, 5]), bars_of([5, 2, 5], "run")
    ('range of both seeds', '95 % interval', '95 % interval, of two runs their range')
    """
    counts = set(estimates)
    if not any(count >= FEWEST for count in counts):
        return f"range of both {one}s" if 2 in counts else ""
    return "95 % interval" + f", of two {one}s their range" * (2 in counts)


def bars_text(rows: pd.DataFrame, columns: Iterable[str], before: str = "; bars: ") -> str:
    """`bars_of` all points of some columns, a point per minimum and landscape, with words before it; empty where there are no bars."""
    places = [x_of(rows), rows["landscape"]]
    counts = [int(n) for column in columns for n in estimated(rows, column).groupby(places).count()]
    bars = bars_of(counts, unit(rows))
    return f"{before}{bars}" if bars else ""


def mean_with_interval(
    axis: Axes,
    rows: pd.DataFrame,
    column: str,
    color: str,
    label: str | None = None,
    *,
    limits: tuple[float, float] | None = None,
    aside: float = 1.0,
    marked: bool = False,
    marker: str = "o",
) -> None:
    """Mean over seeds with its 95 % interval, where there are three seeds or more; of two seeds with their range.

    Args:
        axis, rows, column, color: what to draw, where.
        label: in the legend.
        limits: what values are possible; bars end there.
        aside: factor of x, so that the bars of several series do not hide each other.
        marked: each minimum has its own marker and colour on the line.
        marker: of all points otherwise.
    """
    table = means(rows, column, limits)
    if table["mean"].isna().all():
        return
    bars = bars_of(table["seeds"], unit(rows))
    several = f"mean of {runs_text(rows)}{', ' * bool(bars)}{bars}"
    axis.errorbar(
        table["x"] * aside,
        table["mean"],
        yerr=table[["below", "above"]].T,
        color=color,
        marker=marker,
        markersize=6,
        capsize=3,
        elinewidth=1.2,
        linewidth=2,
        label=label or (several if rows["run"].nunique() > 1 else "one seed"),
    )
    if marked:
        found = looks_of(rows)
        for x, mean in zip(table["x"], table["mean"], strict=True):
            axis.plot(x * aside, mean, **found[x].point, markersize=8, markeredgecolor="white", zorder=4)


def set_aside(x: pd.Series, index: int, count: int, spread: float = 0.035) -> float:
    """A factor of x for series `index` of `count`, so that their bars stand side by side: within `spread` of the axis, whatever its span.

    >>> set_aside(pd.Series([0, 400, 400]), 0, 2), round(set_aside(pd.Series([1.0, 100.0]), 1, 2), 3)
    (1.0, 1.084)
    """
    positive = x[x > 0]
    if positive.empty or count < 2:
        return 1.0
    return float((positive.max() / positive.min()) ** (spread * (index / (count - 1) - 0.5)))


def thousands(axis: Axis, values: pd.Series) -> None:
    """Separators in the labels of an axis of large numbers."""
    if (values.abs() >= 1000).any():
        axis.set_major_formatter("{x:,.0f}")


def data_axis(axis: Axes, rows: pd.DataFrame) -> None:
    """The x axis of `x_of(rows)`."""
    minima_axis(axis, x_of(rows), kind_of(rows))


def minima_axis(axis: Axes, x: Iterable[float], kind: str) -> None:
    """The x axis of minima of a kind, see `quantities.kind_of`."""
    (added_axis if kind in ("poison", "noise") else size_axis)(axis, x, AXIS_LABELS[kind])


def shared_legend(figure: Figure, axes: Sequence[Axes], title: str, ncols: int = 3) -> None:
    """One legend above the panels, under the figure's title, where it hides no data.

    Entries that several panels share are grey, since each panel has its own colour.
    """
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            if label in entries and isinstance(handle, ErrorbarContainer):
                handle = Line2D([], [], color=GREY, marker="o", linewidth=2)
            entries[label] = handle
    legend = figure.legend(list(entries.values()), list(entries), title=title, loc="outside upper center", ncols=ncols)
    legend.get_title().set_fontsize(10.5)


def marker_legend(figure: Figure, axis: Axes, title: str, native: bool = False) -> None:
    """A legend to the right of all panels: the markers and lines of one of them, without their bars, and the ring of native minima."""
    drawn = [one for one in axis.containers if isinstance(one, ErrorbarContainer)]
    handles, labels = [one.lines[0] for one in drawn], [str(one.get_label()) for one in drawn]
    if native:
        handles, labels = [*handles, ring_handle()], [*labels, "native"]
    figure.legend(handles, labels, title=title, loc="outside right center")


def panel_title(rows: pd.DataFrame, quantity: Quantity) -> str:
    """What a panel shows, and how it was measured."""
    if quantity is STAR:
        return quantity.name
    sigmas = sorted({f"{sigma:g}" for sigma in rows["sigma"].dropna()})
    return f"{quantity.name}, sigma {', '.join(sigmas)}"


def landscape_size(rows: pd.DataFrame) -> int:
    """Samples of the landscape that the rows are from."""
    extra = rows["level"] if rows["variation"].iloc[0] == "level" else rows["landscape"]
    return int((rows["train_size"] - extra + rows["landscape"]).iloc[0])


def title_of(rows: pd.DataFrame) -> str:
    """Data set and model, the landscape, the threshold and how many seeds."""
    place = f"landscape of {landscape_size(rows):,} samples, loss threshold {rows['threshold'].iloc[0]:g}"
    return f"{subject_of(rows)}{place}, {seeds_of(rows)}"


def subject_of(rows: pd.DataFrame) -> str:
    """Data set and model, before the rest of a title; empty if the rows do not say."""
    return f"{rows['subject'].iloc[0]}: " if "subject" in rows and rows["subject"].iloc[0] else ""


def seeds_of(rows: pd.DataFrame) -> str:
    """How many seeds, or runs and their seeds."""
    return runs_text(rows)


def mean_of(rows: pd.DataFrame) -> str:
    """The word before a number that is a mean over seeds."""
    return "mean " if rows["run"].nunique() > 1 else ""


def notes(rows: pd.DataFrame, quantities: Sequence[Quantity] | None = None) -> list[str]:
    """How far to trust the numbers, under the figure."""
    lines = []
    if MASS in (measured(rows) if quantities is None else quantities):
        several = f"thin lines: single {unit(rows)}s; " if rows["run"].nunique() > 1 else ""
        lines.append(f"{several}thin bars: the 95 % interval of one measured Gaussian local volume")
    effective = rows["effective_sample_size"].median()
    inside, estimates = int(rows["log_volume"].notna().sum()), int(estimated(rows, STAR.column).count())
    if inside:
        star = f"published number: rests on {effective:.1f} of {rows['num_directions'].min()} directions (median)"
        if estimates < inside:
            which = "none is an estimate" if not estimates else f"{inside - estimates} of {inside} are no estimates"
            star += f"; {which}:\nhollow, with an arrow: lower limits (97.5 %); they are not averaged, fitted or ranked"
        lines.append(star)
    if outside := int(rows["log_volume"].isna().sum()):
        lines.append(f"outside the landscape and not shown: {outside} of {len(rows)} minima")
    return lines
