"""Figures of results of your own models: one volume, several side by side, profiles, star regions, comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minima_volume.analysis.quantities import MASS, STAR
from minima_volume.analysis.results import Mass
from minima_volume.curvature.views import OtherViews
from minima_volume.errors import ConfigError
from minima_volume.perturbation.slices import LineSlice, PlaneSlice
from minima_volume.plots.landscape import ARROW, star_volume
from minima_volume.plots.marks import Look
from minima_volume.plots.masses import mass_mark
from minima_volume.plots.slices import lines, planes
from minima_volume.plots.style import (
    BLUE,
    GREEN,
    GREY,
    MARKERS,
    PURPLE,
    RED,
    caption,
    count_axis,
    new_figure,
    plain_log,
    styled,
)
from minima_volume.plots.views import views
from minima_volume.volume.gaussian.estimate import LocalVolume, VolumeProfile
from minima_volume.volume.pairs import VolumeComparison
from minima_volume.volume.several import Volumes
from minima_volume.volume.star.estimate import VolumeEstimate
from minima_volume.volume.star.growth import growth

Own = LocalVolume | VolumeProfile | VolumeEstimate
NAME = "this minimum"
MOST_TICKS = 6  # sigmas that have a label each
COLORS = (BLUE, RED, GREEN, PURPLE, "#555555")  # models have no order


def draw(result: Any) -> Figure:
    """The figure of any result of your own models.

    Raises:
        ConfigError: it has none.
    """
    drawers: dict[type, Callable[[Any], Figure]] = {
        LocalVolume: local_volume,
        VolumeProfile: lambda one: profiles({NAME: one}),
        VolumeEstimate: star_region,
        VolumeComparison: comparison,
        Volumes: lambda several: volumes_of(several.estimates),
        OtherViews: views,
        LineSlice: lines,
        PlaneSlice: planes,
    }
    if type(result) not in drawers:
        raise ConfigError(f"a {type(result).__name__} has no figure")
    return drawers[type(result)](result)


def estimates_in(results: Any) -> dict[str, Own] | None:
    """name -> estimate, if that is what was given, and not a results.json."""
    if isinstance(results, Volumes):
        return results.estimates
    if isinstance(results, LocalVolume | VolumeProfile | VolumeEstimate):
        return {NAME: results}
    if isinstance(results, Mapping) and results and all(isinstance(one, Own) for one in results.values()):
        return dict(results)
    return None


def volumes_of(estimates: Mapping[str, Own]) -> Figure:
    """Several volumes of one kind side by side.

    Raises:
        ConfigError: they are of several kinds.
    """
    drawers: dict[type, Callable[[Any], Figure]] = {LocalVolume: masses, VolumeProfile: profiles, VolumeEstimate: stars}
    for kind, drawer in drawers.items():
        if all(isinstance(one, kind) for one in estimates.values()):
            return drawer(estimates)
    kinds = ", ".join(sorted({type(one).__name__ for one in estimates.values()}))
    raise ConfigError(f"one figure takes volumes of one kind; these are {kinds}")


@styled
def masses(estimates: Mapping[str, LocalVolume]) -> Figure:
    """Log masses of several minima side by side, with 95 % intervals."""
    figure = new_figure(1.6 + 1.3 * max(3, len(estimates)), 4)
    axis = figure.subplots()
    for x, (style, one) in enumerate(zip(_styles(len(estimates)), estimates.values(), strict=True)):
        mass_mark(axis, x, _mass(one), _look(style))
    _names_axis(axis, list(estimates))
    first = next(iter(estimates.values()))
    axis.set(
        ylabel=MASS.label, title=f"sigma {_one_or_several([one.sigma for one in estimates.values()])}, {_where(first)}"
    )
    axis.margins(y=0.15)
    return figure


@styled
def profiles(estimates: Mapping[str, VolumeProfile]) -> Figure:
    """Log mass against sigma, a curve per minimum with its 95 % band."""
    figure = new_figure(7, 4)
    axis = figure.subplots()
    for style, (name, profile) in zip(_styles(len(estimates)), estimates.items(), strict=True):
        order = np.argsort(profile.sigmas)
        sigmas, limits, color = np.array(profile.sigmas)[order], profile.interval[order], style["color"]
        axis.fill_between(sigmas, limits[:, 0], limits[:, 1], color=color, alpha=0.2, linewidth=0)
        estimates_only = np.where(np.isfinite(limits).all(axis=1), profile.log_mass[order], np.nan)
        axis.plot(sigmas, estimates_only, color=color, marker=style["marker"], markersize=5, label=name)
        for k in np.flatnonzero(np.isfinite(limits).sum(axis=1) == 1):
            mass_mark(axis, sigmas[k], _mass(profile.volumes[order[k]], bare=True), _look(style))
    axis.set(
        xscale="log",
        xlabel=f"sigma (scaling: {next(iter(estimates.values())).settings['scaling']})",
        ylabel=MASS.label,
        title=f"{_where(next(iter(estimates.values())))}; band: 95 % interval",
    )
    plain_log(axis.xaxis)
    ticks = sorted({sigma for profile in estimates.values() for sigma in profile.sigmas})
    if len(ticks) <= MOST_TICKS:
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_xticks([], minor=True)
    if len(estimates) > 1:
        axis.legend(title="model", loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


@styled
def local_volume(one: LocalVolume) -> Figure:
    """One log mass with its interval; of splitting also how it was reached: log P[loss <= level] at the levels of each repeat."""
    if not any(repeat.stages for repeat in one.repeats) or one.context.kind != "loss":
        return masses({NAME: one})
    figure = new_figure(7, 4)
    axis = figure.subplots()
    for i, repeat in enumerate(one.repeats):
        known = [(stage.score, np.log(stage.fraction)) for stage in repeat.stages if stage.score is not None]
        if not known or repeat.reason is not None:
            continue
        levels, steps = (np.array(column) for column in zip(*known, strict=True))
        path = np.append(np.cumsum(steps), repeat.log_mass)
        label = f"{len(one.repeats)} repeats of splitting" if i == 0 else None
        axis.plot(np.append(levels, one.threshold), path, color=BLUE, alpha=0.35, linewidth=1, label=label)
    mass_mark(axis, one.threshold, _mass(one), Look(RED, "o", "-"))
    if one.threshold > 0:
        axis.set_xscale("log")
        plain_log(axis.xaxis)
    else:  # levels fall from large losses to below 0
        axis.set_xscale("symlog", linthresh=abs(one.threshold) or 1.0)
    axis.set(
        xlabel=f"level of the loss (dot: the threshold {one.threshold:g})",
        ylabel="log P[loss at most the level] (nats)",
        title=f"sigma {one.sigma:g}, {one.context.num_samples:,} samples; bar: 95 % interval",
    )
    axis.legend(loc="lower right")
    return figure


@styled
def stars(estimates: Mapping[str, VolumeEstimate]) -> Figure:
    """Log volumes of star regions side by side, or what is known of them, and the radii that they rest on."""
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    bounds = False
    for x, (style, (name, one)) in enumerate(zip(_styles(len(estimates)), estimates.items(), strict=True)):
        value = np.nan if one.log_volume is None else one.log_volume
        star_volume(left, x, value, one.interval, _look(style))
        bounds |= one.interval is not None and one.interval[1] is None
        _radii(right, one, style["color"], name)
    _names_axis(left, list(estimates))
    left.margins(y=0.15)
    left.set(ylabel=STAR.label, title=_where(next(iter(estimates.values()))))
    left.yaxis.set_major_formatter("{x:,g}")
    _radii_axis(right)
    if right.lines:
        right.legend(title="model", loc="center left", bbox_to_anchor=(1.02, 0.5))
    if bounds:
        caption(figure, ARROW)
    return figure


@styled
def star_region(one: VolumeEstimate) -> Figure:
    """The radii of one star region, and the same estimate from fewer directions: level where it can be trusted."""
    if one.log_volume is None:
        return stars({NAME: one})
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    _radii(left, one, BLUE, NAME)
    _radii_axis(left)
    left.set_title(_where(one))
    found = growth(one.star.logs)
    right.plot(found.num_directions, found.values, "o-", color=BLUE, label="estimate")
    right.plot(found.num_directions, found.largest, "--", color=RED, label="its largest direction alone")
    count_axis(right, found.num_directions, "directions")
    right.yaxis.set_major_formatter("{x:,g}")
    right.set(
        ylabel=r"log mean $r^n$ (nats)",
        title=f"effective sample size {one.effective_sample_size:.1f} of {len(one.radii):,}",
    )
    right.legend(loc="best")
    return figure


@styled
def comparison(found: VolumeComparison) -> Figure:
    """The difference of two volumes with its interval, beside 0."""
    figure = new_figure(7, 1.9)
    axis = figure.subplots()
    low, high = found.interval
    if low is not None and high is not None:
        axis.plot([low, high], [0, 0], color=BLUE, linewidth=3)
    for limit, arrow in ((low, r"$\rightarrow$"), (high, r"$\leftarrow$")):
        if limit is not None and (low is None or high is None):
            axis.annotate(arrow, (limit, 0), (0, 0), textcoords="offset points", color=BLUE, fontsize=16, va="center")
            axis.plot(limit, 0, "|", color=BLUE, markersize=14)
    if found.difference is not None and low is not None and high is not None:
        axis.plot(found.difference, 0, "o", color=BLUE, markersize=8)
    axis.axvline(0, color=GREY, linewidth=1)
    axis.set(yticks=[], xlabel=f"{found.names[0]} minus {found.names[1]} (nats; bar: 95 % interval)")
    axis.margins(x=0.2)
    axis.set_title(found.verdict, fontsize=9, wrap=True)
    return figure


def _styles(count: int) -> list[dict[str, Any]]:
    return [
        {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)], "linestyle": "none", "markersize": 8}
        for i in range(count)
    ]


def _mass(one: LocalVolume, bare: bool = False) -> Mass:
    """As the marks of figures take it; `bare`: its limits alone."""
    return Mass(
        None if bare else one.log_mass, one.interval, one.method, one.num_stages, one.num_forward, one.note, one.verdict
    )


def _names_axis(axis: Axes, names: list[str]) -> None:
    axis.set_xticks(range(len(names)), names)
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.grid(False, axis="x")


def _radii(axis: Axes, one: VolumeEstimate, color: Any, name: str) -> None:
    """The distribution of the radii as a curve: the share of directions up to each."""
    known = np.sort(one.radii[np.isfinite(one.radii)])
    if len(known):
        axis.plot(known, np.arange(1, len(known) + 1) / len(known), color=color, label=name, drawstyle="steps-post")


def _radii_axis(axis: Axes) -> None:
    axis.set(xlabel=r"radius $r = c\,\|\xi\|$", ylabel="share of directions", ylim=(0, 1.02))


def _where(one: Own) -> str:
    return f"{one.context.num_samples:,} samples, {one.context.where}"


def _one_or_several(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(set(values)))


def _look(style: Mapping[str, Any]) -> Look:
    return Look(style["color"], style["marker"], "-")
