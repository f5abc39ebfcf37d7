"""How figures mark minima: one colour, marker and line each, a ring around the native one, hollow with an arrow what is only a bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from minima_volume.analysis.quantities import x_of
from minima_volume.plots.style import GREY, MARKERS, RED, level_colors

LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (3, 1)))
ARROWS = {"up": (r"$\uparrow$", 0, 1), "down": (r"$\downarrow$", 0, -1), "right": (r"$\rightarrow$", 1, 0)}
ARROW_POINTS = 10.0  # from a bound to the middle of its arrow
ARROW_ROOM = 0.15  # share of an axis that is left free beyond the outermost bound, so that its arrow stays inside
NATIVE = "native minimum"
LINE_HEIGHT = 12.0  # points, of a label


@dataclass(frozen=True)
class Look:
    """How one minimum is drawn, wherever it is.

    Attributes:
        color, marker, line: of matplotlib.
    """

    color: Any
    marker: str
    line: Any

    @property
    def point(self) -> dict[str, Any]:
        """Of a marker alone."""
        return {"color": self.color, "marker": self.marker, "linestyle": "none"}


def looks(minima: Sequence[int]) -> dict[int, Look]:
    """The look of each minimum of a run, by its place among all of them: the same in every landscape.

    Args:
        minima: all of the run, ascending.
    """
    colors = level_colors(len(minima))
    return {
        minimum: Look(tuple(colors[i]), MARKERS[i % len(MARKERS)], LINES[i % len(LINES)])
        for i, minimum in enumerate(minima)
    }


def looks_of(rows: pd.DataFrame) -> dict[float, Look]:
    """The look of each minimum of a tidy table, by what figures draw on the axis; also in a part of the table.

    Args:
        rows: from `collect`, whose column `minima` names all minima of the condition; without it those of the rows are all.
    """
    if "minima" in rows:
        everyone = [int(minimum) for minimum in str(rows["minima"].iloc[0]).split()]
    else:
        everyone = sorted({int(level) for level in rows["level"]})
    found = looks(everyone)
    places = dict(zip(x_of(rows).tolist(), rows["level"].tolist(), strict=True))
    return {x: found[int(places[x])] for x in sorted(places)}


def ring(axis: Axes, x: Any, y: Any, label: str | None = NATIVE) -> None:
    """Mark native minima: a ring around their marker."""
    style: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": RED, "markeredgewidth": 1.8}
    axis.plot(x, y, "o", **style, markersize=16, zorder=6, clip_on=False, label=label)


def ring_handle() -> Line2D:
    """The native minimum in a legend."""
    return Line2D([], [], marker="o", linestyle="none", markerfacecolor="none", markeredgecolor=RED, markersize=11)


def bounds(axis: Axes, x: Any, y: Any, way: str, look: Look, label: str | None = None) -> None:
    """Draw what is only a bound: hollow markers, each with an arrow to where the value may be.

    Args:
        axis: where.
        x, y: of the bounds.
        way: up, down or right.
        look: of the minimum.
        label: in the legend.
    """
    x, y = np.atleast_1d(np.asarray(x, dtype=float)), np.atleast_1d(np.asarray(y, dtype=float))
    hollow: dict[str, Any] = {"color": look.color, "markerfacecolor": "white", "markeredgewidth": 1.5}
    axis.plot(x, y, look.marker, **hollow, markersize=7, zorder=3, label=label)
    arrow, across, up = ARROWS[way]
    margins = axis.margins() or (0.0, 0.0)
    axis.margins(max(margins[0], abs(across) * ARROW_ROOM), max(margins[1], abs(up) * ARROW_ROOM))
    figure = axis.get_figure()
    assert figure is not None
    shift = ScaledTranslation(across * ARROW_POINTS / 72, up * ARROW_POINTS / 72, figure.dpi_scale_trans)
    line = Line2D(
        x,
        y,
        marker=arrow,
        markersize=10,
        linestyle="none",
        color=look.color,
        transform=axis.transData + shift,
        zorder=3,
        clip_on=False,
    )
    axis.add_artist(line)  # unlike a plotted one it leaves the limits alone


def bound_handle(color: Any = GREY) -> Line2D:
    """A bound in a legend."""
    return Line2D([], [], marker="o", linestyle="none", color=color, markerfacecolor="white", markeredgewidth=1.5)


def label_ends(axis: Axes, ends: Mapping[str, tuple[float, Any]], title: str = "", inches: float = 3.0) -> None:
    """Write the names of curves beside their right ends, moved apart where they would overlap.

    Args:
        axis: its limits are final.
        ends: name -> (height of the end in data coordinates, colour).
        title: above the names.
        inches: height of the axes.
    """
    spot = axis.transAxes.inverted().transform
    true = {name: float(spot(axis.transData.transform((axis.get_xlim()[1], y)))[1]) for name, (y, _) in ends.items()}
    names = sorted(true, key=lambda name: true[name])
    gap = LINE_HEIGHT / 72 / inches
    for name, height in zip(names, spread([true[name] for name in names], gap), strict=True):
        color = ends[name][1]
        axis.annotate(
            name,
            (1.0, min(max(true[name], 0.0), 1.0)),
            (1.03, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            color=color,
            fontsize=9,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 1},
            annotation_clip=False,
        )
    if title:
        axis.text(1.03, 1.02, title, transform=axis.transAxes, va="bottom", fontsize=9)


def spread(places: Iterable[float], gap: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    """Ascending places moved apart by at least `gap`, as little as possible, and kept between `low` and `high` while there is room.

    >>> [round(place, 2) for place in spread([0.5, 0.51, 0.9], 0.1)]
    [0.5, 0.6, 0.9]
    >>> [round(place, 2) for place in spread([0.95, 1.2], 0.1)]
    [0.9, 1.0]
    """
    found: list[float] = []
    for place in places:
        found.append(max(place, low, found[-1] + gap if found else low))
    for i in reversed(range(len(found))):
        found[i] = min(found[i], high if i == len(found) - 1 else found[i + 1] - gap)
    return found
