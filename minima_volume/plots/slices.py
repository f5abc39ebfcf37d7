"""Slices of a landscape: the loss along lines, and over the plane through one, two or three minima."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from minima_volume.errors import ConfigError
from minima_volume.perturbation.plane import Plane
from minima_volume.perturbation.slices import LineSlice, PlaneSlice
from minima_volume.plots.style import BLUE, GREEN, GREY, PURPLE, RED, new_figure, styled

MARKERS, CMAP = "o^s", "cividis"
STYLES, LINE_COLORS = ("-", "--", "-.", ":"), (BLUE, GREEN, PURPLE, GREY)
HALO = [withStroke(linewidth=4, foreground="white")]
SHADOW = [withStroke(linewidth=3, foreground="black")]  # white is not seen on the colours of large losses
DECADES = 1e-6  # of the largest loss, down to which a line is drawn


@styled
def planes(
    plane: Plane | PlaneSlice, names: Sequence[str] = (), threshold: float | None = None, subject: str = ""
) -> Figure:
    """The plane through minima, a panel per landscape: colour is the loss, the line the threshold.

    Args:
        plane: from `run_plane`; or from `slice_plane`, which knows its names and threshold.
        names: of the minima, for the legend ("60 samples").
        threshold: of the loss.
        subject: data set and model, for the title.
    """
    title, axes_of, note = "minimum trained on", ("the first axis", "across"), None
    if isinstance(plane, PlaneSlice):
        names, threshold, note = names or plane.names, threshold or plane.threshold, plane.note
        title, axes_of, plane = "model", _axis_names(plane), plane.plane
    if len(names) != len(plane.points):
        raise ConfigError(f"the plane has {len(plane.points)} minima; names has {len(names)}: {list(names)}")
    count = len(plane.sizes)
    shape = float(np.ptp(plane.v) / np.ptp(plane.u))  # of a panel: a tall one needs room for its title
    figure = new_figure(3.3 * count + 1.2 + (count == 1), max(4.1, 3.05 * shape + 1.4) + 0.6 * (count == 1))
    axes = list(figure.subplots(1, count, squeeze=False, sharey=True)[0])
    norm = loss_norm(plane, threshold)
    for k, (axis, size) in enumerate(zip(axes, plane.sizes, strict=True)):
        draw_plane(axis, plane, k, norm, threshold)
        axis.set(xlabel=f"radius along {axes_of[0]} (filter norms)", title=f"landscape of {size:,} samples")
    axes[0].set_ylabel(f"radius {axes_of[1] if axes_of[1] == 'across' else 'along ' + axes_of[1]} (filter norms)")
    figure.colorbar(ScalarMappable(norm, CMAP), ax=axes, label="mean loss", extend="max")
    handles = [
        Line2D([], [], color="white", marker=marker, markeredgecolor="black", markersize=9, linestyle="none")
        for marker in MARKERS[: len(names)]
    ]
    labels = list(names)
    if threshold is not None:
        handles.append(Line2D([], [], color=RED, linewidth=2, path_effects=HALO))
        labels.append(f"loss {threshold:g}")
        if (plane.at_points > threshold).any():
            handles.append(Line2D([], [], color="none", marker="o", markeredgecolor=GREY, markersize=9))
            labels.append("hollow: outside")
    figure.legend(handles, labels, title=title, loc="outside lower center", ncols=min(5, len(labels)))
    if subject:
        figure.suptitle(subject, fontsize=10.5)
    elif note:
        figure.suptitle(note, fontsize=8.5, color=GREY)
    return figure


def _axis_names(found: PlaneSlice) -> tuple[str, str]:
    """Where the axes of a slice point."""
    towards = [f"the direction to {name}" for name in found.names[1:2]]
    across = ["across"] if len(found.names) == 3 else []
    random = [f"random direction {seed}" for seed in found.seeds]
    first, second = [*towards, *across, *random]
    return first, second


def loss_norm(plane: Plane, threshold: float | None) -> LogNorm:
    """Colours from the lowest loss (not far below the threshold) to thirty times the threshold, or to the largest loss without one."""
    positive = plane.loss[np.isfinite(plane.loss) & (plane.loss > 0)]
    if threshold is None:
        high = float(positive.max(initial=1e-12))
        return LogNorm(max(float(positive.min(initial=high)), DECADES * high) / 1.01, high)
    low = max(float(positive.min(initial=threshold)), threshold / 50)
    return LogNorm(min(low, threshold / 3), threshold * 30)


def draw_plane(axis: Axes, plane: Plane, landscape: int, norm: LogNorm, threshold: float | None) -> None:
    """Colours, the threshold's line, and the minima: filled if their own loss is inside the landscape, hollow outside."""
    loss = plane.loss[landscape]
    shown = np.clip(np.where(np.isnan(loss), np.inf, loss), norm.vmin, norm.vmax)
    axis.pcolormesh(plane.u, plane.v, shown, norm=norm, cmap=CMAP, shading="gouraud", rasterized=True)
    if threshold is not None and shown.min() < threshold < shown.max():
        lines = axis.contour(
            plane.u, plane.v, np.log(shown), levels=[np.log(threshold)], colors=[RED], linewidths=2, linestyles="solid"
        )
        lines.set(path_effects=HALO)  # the line's red and the colours of losses near the threshold are one grey
    for (u, v), marker, own in zip(plane.points, MARKERS, plane.at_points[landscape], strict=False):
        inside = threshold is None or own <= threshold
        axis.plot(
            u,
            v,
            marker,
            color="white" if inside else "none",
            markeredgecolor="black" if inside else "white",
            markeredgewidth=1.0 if inside else 1.6,
            markersize=9,
            path_effects=None if inside else SHADOW,
        )
    axis.set_aspect("equal")
    axis.grid(False)


@styled
def lines(found: LineSlice) -> Figure:
    """The loss along random directions to both sides of a minimum, and where it passes the threshold.

    Args:
        found: from `slice_line`.
    """
    figure = new_figure(7, 4)
    axis = figure.subplots()
    finite = found.losses[np.isfinite(found.losses)]
    floor = max(float(finite[finite > 0].min(initial=np.inf)), DECADES * float(finite.max(initial=1.0)))
    axis.set_yscale("log")
    for i, (seed, losses) in enumerate(zip(found.seeds, found.losses, strict=True)):
        style = STYLES[i % len(STYLES)]
        axis.plot(
            found.coefficients,
            np.maximum(losses, floor),
            style,
            color=LINE_COLORS[i % len(LINE_COLORS)],
            label=f"direction {seed}",
        )
        crossed = found.crossings[i][np.isfinite(found.crossings[i])]
        if found.threshold is not None:
            axis.plot(
                crossed,
                np.full(len(crossed), found.threshold),
                "o",
                color=LINE_COLORS[i % len(LINE_COLORS)],
                markersize=6,
            )
    if found.threshold is not None:
        axis.axhline(
            found.threshold, color=RED, linewidth=1.2, linestyle=(0, (4, 3)), label=f"loss {found.threshold:g}"
        )
        axis.set_ylim(top=min(float(finite.max(initial=1.0)), 30 * found.threshold) * 1.3)
    axis.set(
        xlabel=f"coefficient c, in units of {found.scaling} norms" if found.scaling != "none" else "coefficient c",
        ylabel=f"mean loss of {found.num_samples:,} samples",
    )
    axis.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    if found.note:
        axis.set_title(found.note, fontsize=8.5, color=GREY)
    return figure
