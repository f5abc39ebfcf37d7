"""How far can the published number be trusted?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minima_volume.analysis.results import Results
from minima_volume.plots.landscape import LEGEND_TITLES
from minima_volume.plots.style import GREY, RED, count_axis, level_colors, new_figure, styled


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
    for i, color in enumerate(level_colors(len(stars))):
        if growth["values"][i] is None:
            continue
        low, high = stars[i].published_limits
        if high is not None:
            left.fill_between([sizes[0], sizes[-1]], low, high, color=color, alpha=0.18, linewidth=0)
        left.plot(
            sizes,
            growth["values"][i],
            "o-",
            color=color,
            markersize=5,
            linewidth=2.4,
            label=read.names[i],
        )
        left.plot(sizes, growth["largest_minus_log_directions"][i], "--", color=RED, linewidth=1, zorder=3)
        right.plot(sizes, growth["effective_sample_sizes"][i], "o-", color=color, markersize=4)
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
    handles.append(Line2D([], [], color=RED, linestyle="--", linewidth=1))
    labels.append(r"$n\,\log\,r_{\max} - \log\,D$")
    if any(star.published_limits[1] is not None for star in stars):
        handles.append(Line2D([], [], color=GREY, alpha=0.4, linewidth=7))
        labels.append("95 % interval")
    figure.legend(handles, labels, title=LEGEND_TITLES[read.variation], loc="outside right center")
    figure.suptitle(
        f"{read.title}\n{read.overall_verdict()}",
        fontsize=9.5,
    )
    return figure
