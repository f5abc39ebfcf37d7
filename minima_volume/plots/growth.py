"""How far can the published number be trusted?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from minima_volume.analysis.quantities import AXIS_LABELS
from minima_volume.analysis.results import Results, Star
from minima_volume.plots.marks import looks
from minima_volume.plots.style import GREY, RED, count_axis, new_figure, styled

DASHED: dict[str, Any] = {  # over the curve that it may lie on
    "color": "black",
    "linestyle": (0, (3, 2)),
    "linewidth": 1.2,
    "zorder": 5,
    "path_effects": [withStroke(linewidth=2.4, foreground="white")],
}


@styled
def growth_with_directions(results: Mapping[str, Any]) -> Figure:
    """log mean r^n and effective sample size against the number of directions, for every minimum of a landscape.

    An estimate that can be trusted is level. One that follows the dashed line, n log r_max - log D, is its largest direction alone.

    Args:
        results: a results.json.
    """
    figure = new_figure(10, 3.9)
    left, right = figure.subplots(1, 2)
    read = Results.of(results)
    growth, stars = read.growth, read.stars()
    sizes = growth["num_directions"] or [1]
    found = looks(read.all_minima)
    for i, look in enumerate(found[minimum] for minimum in read.minima):
        color = look.color
        if growth["values"][i] is None:
            continue
        low, high = stars[i].published_limits
        if high is not None:
            left.fill_between([sizes[0], sizes[-1]], low, high, color=color, alpha=0.18, linewidth=0)
        left.plot(
            sizes,
            growth["values"][i],
            color=color,
            marker=look.marker,
            markersize=6,
            linewidth=3,
            label=read.labels[i],
        )
        left.plot(sizes, growth["largest_minus_log_directions"][i], **DASHED)
        right.plot(sizes, growth["effective_sample_sizes"][i], color=color, marker=look.marker, markersize=5)
    right.plot(sizes, sizes, ":", color=GREY, linewidth=1.2)
    right.annotate(
        "all directions count",
        (sizes[-1], sizes[-1]),
        xytext=(-16, 2),
        textcoords="offset points",
        ha="right",
        va="center",
        color=GREY,
        fontsize=8.5,
    )
    left.set_ylabel(r"log mean $r^n$ (nats)")
    left.yaxis.set_major_formatter("{x:,g}")
    right.set(ylabel="effective sample size", yscale="log")
    right.yaxis.set_major_formatter("{x:,g}")
    for axis in (left, right):
        count_axis(axis, sizes, "directions")
    handles, labels = left.get_legend_handles_labels()
    handles.append(Line2D([], [], **DASHED))
    labels.append(r"$n\,\log\,r_{\max} - \log\,D$")
    if any(star.published_limits[1] is not None for star in stars):
        handles.append(Line2D([], [], color=GREY, alpha=0.4, linewidth=7))
        labels.append("95 % interval")
    if known := [star for star in stars if star.log_volume is not None]:
        left.set_title(_trust(known), color=RED if not any(star.is_estimate for star in known) else "black")
    figure.legend(handles, labels, title=AXIS_LABELS[read.kind], loc="outside right center")
    figure.suptitle(
        f"{read.title}\n{read.overall_verdict()}",
        fontsize=9.5,
    )
    return figure


def _trust(stars: Sequence[Star]) -> str:
    """What the curves come to."""
    bounds = [star for star in stars if not star.is_estimate]
    if not bounds:
        return "each volume is an estimate"
    which = "all volumes are" if len(bounds) == len(stars) else f"{len(bounds)} of {len(stars)} volumes are"
    alone = all((star.largest_share or 0) > 0.5 for star in bounds)
    return f"{which} lower bounds:\n{'one direction carries' if alone else 'a few directions carry'} everything"
