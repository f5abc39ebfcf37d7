"""How far can the published number be trusted?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from minima_volume.analysis.quantities import AXIS_LABELS
from minima_volume.analysis.results import Limits, Results
from minima_volume.errors import ConfigError
from minima_volume.plots.marks import Look, looks
from minima_volume.plots.own import estimates_in
from minima_volume.plots.style import GREY, RED, count_axis, new_figure, styled
from minima_volume.volume.star.estimate import VolumeEstimate
from minima_volume.volume.star.growth import Growth, growth

DASHED: dict[str, Any] = {  # over the curve that it may lie on
    "color": "black",
    "linestyle": (0, (3, 2)),
    "linewidth": 1.2,
    "zorder": 5,
    "path_effects": [withStroke(linewidth=2.4, foreground="white")],
}


@dataclass(frozen=True)
class _Curve:
    """One minimum: how its number grows, and what it is worth."""

    label: str
    look: Look
    growth: Growth
    limits: Limits
    is_estimate: bool
    largest_share: float


@styled
def growth_with_directions(results: Any) -> Figure:
    """log mean r^n and effective sample size against the number of directions, for every minimum of a landscape.

    An estimate that can be trusted is level. One that follows the dashed line, n log r_max - log D, is its largest direction alone.

    Args:
        results: a results.json; or name -> VolumeEstimate, or one, or `Volumes`.

    Raises:
        ConfigError: they are no volumes of star regions, or none is defined.
    """
    found = estimates_in(results)
    if found is not None:
        curves = _of_estimates(found)
        first = next(iter(found.values()))
        return _drawn(curves, "model", f"star regions, {first.context.where}")
    read = Results.of(results)
    return _drawn(_of_results(read), AXIS_LABELS[read.kind], f"{read.title}\n{read.overall_verdict()}")


def _of_results(read: Results) -> list[_Curve]:
    stored, known = read.growth, looks(read.all_minima)
    keys = ("values", "effective_sample_sizes", "largest_minus_log_directions")
    return [
        _Curve(
            label,
            known[minimum],
            Growth(stored["num_directions"], *(stored[key][i] for key in keys)),
            star.published_limits,
            star.is_estimate,
            star.largest_share or 0.0,
        )
        for i, (label, minimum, star) in enumerate(zip(read.labels, read.minima, read.stars(), strict=True))
        if stored["values"][i] is not None
    ]


def _of_estimates(estimates: Mapping[str, Any]) -> list[_Curve]:
    if kinds := {type(one).__name__ for one in estimates.values() if not isinstance(one, VolumeEstimate)}:
        raise ConfigError(f"growth is that of star regions (VolumeEstimate), not of {', '.join(sorted(kinds))}")
    known, curves = looks(range(len(estimates))), []
    for i, (name, one) in enumerate(estimates.items()):
        star = one.star
        if star.interval is not None:
            share = star.largest_share or 0.0
            curves.append(_Curve(name, known[i], growth(star.logs), star.interval, star.is_estimate, share))
    if not curves:
        raise ConfigError(f"none of the volumes is defined: {next(iter(estimates.values())).note}")
    return curves


def _drawn(curves: Sequence[_Curve], kind: str, title: str) -> Figure:
    figure = new_figure(10, 3.9)
    left, right = figure.subplots(1, 2)
    sizes = max((curve.growth.num_directions for curve in curves), key=len, default=[1])
    for curve in curves:
        counts, (low, high), color = curve.growth.num_directions, curve.limits, curve.look.color
        if low is not None and high is not None:
            left.fill_between([counts[0], counts[-1]], low, high, color=color, alpha=0.18, linewidth=0)
        line: dict[str, Any] = {"color": color, "marker": curve.look.marker}
        left.plot(counts, curve.growth.values, **line, markersize=6, linewidth=3, label=curve.label)
        left.plot(counts, curve.growth.largest, **DASHED)
        right.plot(counts, curve.growth.effective_sample_sizes, **line, markersize=5)
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
    if any(curve.limits[1] is not None for curve in curves):
        handles.append(Line2D([], [], color=GREY, alpha=0.4, linewidth=7))
        labels.append("95 % interval")
    if curves:
        trust, none = _trust(curves)
        left.set_title(trust, color=RED if none else "black")
    figure.legend(handles, labels, title=kind, loc="outside right center")
    figure.suptitle(title, fontsize=9.5)
    return figure


def _trust(curves: Sequence[_Curve]) -> tuple[str, bool]:
    """What the curves come to, and whether none is an estimate."""
    bounds = [curve for curve in curves if not curve.is_estimate]
    if not bounds:
        return "each volume is an estimate", False
    which = "all volumes are" if len(bounds) == len(curves) else f"{len(bounds)} of {len(curves)} volumes are"
    alone = all(curve.largest_share > 0.5 for curve in bounds)
    words = f"{which} lower bounds:\n{'one direction carries' if alone else 'a few directions carry'} everything"
    return words, len(bounds) == len(curves)
