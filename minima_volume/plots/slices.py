"""Two-dimensional pictures of a landscape: the plane through three minima."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minima_volume.errors import ConfigError
from minima_volume.perturbation.plane import Plane
from minima_volume.plots.style import RED, new_figure, styled

MARKERS, CMAP = "o^s", "cividis"


@styled
def planes(plane: Plane, names: Sequence[str], threshold: float) -> Figure:
    """The plane through three minima, a panel a landscape: colour is the loss, the line the threshold.

    Args:
        plane: from `run_plane`.
        names: of the three minima, for the legend ("60 samples").
        threshold: of the loss.
    """
    if len(names) != 3:
        raise ConfigError(f"a plane has three minima; names has {len(names)}: {list(names)}")
    count = len(plane.sizes)
    figure = new_figure(3.3 * count + 1.2, 4.1)
    axes = list(figure.subplots(1, count, squeeze=False, sharey=True)[0])
    norm = loss_norm(plane, threshold)
    for axis, size, loss in zip(axes, plane.sizes, plane.loss, strict=True):
        draw_plane(axis, plane, loss, norm, threshold)
        axis.set(xlabel="distance along the first axis (radius)", title=f"landscape of {size:,} samples")
    axes[0].set_ylabel("distance across (radius)")
    figure.colorbar(ScalarMappable(norm, CMAP), ax=axes, label="mean loss", extend="max")
    handles = [
        Line2D([], [], color="white", marker=marker, markeredgecolor="black", markersize=9, linestyle="none")
        for marker in MARKERS
    ]
    handles.append(Line2D([], [], color=RED, linewidth=2))
    figure.legend(
        handles, [*names, f"loss {threshold:g}"], title="minimum trained on", loc="outside lower center", ncols=4
    )
    return figure


def loss_norm(plane: Plane, threshold: float) -> LogNorm:
    """Colours from the lowest loss (not far below the threshold) to thirty times the threshold."""
    positive = plane.loss[np.isfinite(plane.loss) & (plane.loss > 0)]
    low = max(float(positive.min(initial=threshold)), threshold / 50)
    return LogNorm(min(low, threshold / 3), threshold * 30)


def draw_plane(axis: Axes, plane: Plane, loss: np.ndarray, norm: LogNorm, threshold: float) -> None:
    """Colours, the threshold's line, and the three minima: white inside the landscape, hollow outside."""
    shown = np.clip(np.where(np.isnan(loss), np.inf, loss), norm.vmin, norm.vmax)
    axis.pcolormesh(plane.u, plane.v, shown, norm=norm, cmap=CMAP, shading="gouraud", rasterized=True)
    if shown.min() < threshold < shown.max():
        axis.contour(
            plane.u, plane.v, np.log(shown), levels=[np.log(threshold)], colors=[RED], linewidths=2, linestyles="solid"
        )
    for (u, v), marker in zip(plane.points, MARKERS, strict=True):
        column, row = np.abs(plane.u - u).argmin(), np.abs(plane.v - v).argmin()
        inside = loss[row, column] <= threshold
        axis.plot(
            u,
            v,
            marker,
            color="white" if inside else "none",
            markeredgecolor="black" if inside else "white",
            markersize=9,
        )
    axis.set_aspect("equal")
    axis.grid(False)
