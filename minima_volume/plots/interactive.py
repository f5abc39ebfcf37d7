"""Interactive twins of figures, for a notebook or a web page without a net; they need the extra `interactive` (plotly)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from minima_volume.arguments import as_path
from minima_volume.errors import ConfigError
from minima_volume.files.atomic import write_text
from minima_volume.perturbation.plane import Plane
from minima_volume.perturbation.slices import LineSlice, PlaneSlice
from minima_volume.plots.marks import looks
from minima_volume.stages.run import minimum_name, variation_of
from minima_volume.stages.sweep_files import Sweep

MAX_CURVES = 60


def surface(
    plane: Plane | PlaneSlice, names: Sequence[str] = (), threshold: float | None = None, landscape: int = -1
) -> Any:
    """The plane through minima as a surface to turn around: height is log10 of the loss.

    Args:
        plane: from `run_plane`; or from `slice_plane`, which knows its names and threshold.
        names: of the minima.
        threshold: of the loss, drawn as a line on the surface.
        landscape: which of the plane's landscapes; the largest by default.

    Returns:
        A plotly Figure.

    Raises:
        ConfigError: plotly is not installed, or there is not a name for each minimum.
    """
    go = _plotly()
    if isinstance(plane, PlaneSlice):
        names, threshold, plane = names or plane.names, threshold or plane.threshold, plane.plane
    if len(names) != len(plane.points):
        raise ConfigError(f"the plane has {len(plane.points)} minima; names has {len(names)}: {list(names)}")
    losses = plane.loss[landscape]
    middle = float(np.nanmedian(losses)) if threshold is None else threshold
    low, high = middle / 50, middle * 100
    height, places = (np.log10(np.clip(part, low, high)) for part in (losses, plane.at_points[landscape]))
    level = np.log10(middle)
    line = {"show": threshold is not None, "start": level, "end": level, "size": 1, "color": "#D55E00", "width": 6}
    figure = go.Figure(
        go.Surface(
            x=plane.u, y=plane.v, z=height, colorscale="Cividis", contours={"z": line}, colorbar={"title": "log10 loss"}
        )
    )
    figure.add_trace(
        go.Scatter3d(
            x=plane.points[:, 0],
            y=plane.points[:, 1],
            z=places + 0.05,
            text=list(names),
            mode="markers+text",
            marker={"size": 5, "color": "#D55E00"},
            name="minima",
        )
    )
    scene = {"xaxis_title": "radius", "yaxis_title": "radius across", "zaxis_title": "log10 loss"}
    title = f"landscape of {plane.sizes[landscape]:,} samples"
    figure.update_layout(title=title if threshold is None else f"{title}, threshold {threshold:g}", scene=scene)
    return figure


def line_browser(found: LineSlice) -> Any:
    """The loss along random directions, one to be pointed at: hovering says the direction's seed, coefficient and radius.

    Args:
        found: from `slice_line`.

    Returns:
        A plotly Figure.

    Raises:
        ConfigError: plotly is not installed.
    """
    go = _plotly()
    figure = go.Figure()
    for seed, losses, norm in zip(found.seeds, found.losses, found.norms, strict=True):
        name = f"direction {seed}"
        hover = f"{name}<br>coefficient %{{x:.3g}}, radius %{{customdata:.3g}}, loss %{{y:.3g}}<extra></extra>"
        y, radii = np.where(losses > 0, losses, np.nan), np.abs(found.coefficients) * norm
        figure.add_trace(
            go.Scatter(x=found.coefficients, y=y, customdata=radii, mode="lines", name=name, hovertemplate=hover)
        )
    if found.threshold is not None:
        line = {"dash": "dash", "color": "#D55E00"}
        figure.add_hline(y=found.threshold, line=line, annotation_text=f"{found.threshold:g}")
    figure.update_layout(xaxis_title="coefficient c", yaxis_title="mean loss", yaxis_type="log")
    return figure


def save_html(figure: Any, path: str | Path) -> Path:
    """Write an interactive figure as one page that holds all it needs, so that it opens without a net (about 5 MB).

    Args:
        figure: a plotly Figure.
        path: the page.
    """
    return write_text(as_path(path), figure.to_html(include_plotlyjs=True))


def loss_curve_browser(
    sweeps: Mapping[int, Sweep], thresholds: Sequence[float], minima: Sequence[int] | None = None
) -> Any:
    """Losses along random directions, one to be pointed at: hovering says the direction's seed, clicking a minimum hides it.

    Args:
        sweeps: level -> its sweep in one landscape.
        thresholds: loss thresholds, drawn as lines.
        minima: all of the run, whose colours these keep; those of `sweeps` by default.

    Returns:
        A plotly Figure.

    Raises:
        ConfigError: plotly is not installed.
    """
    go = _plotly()
    figure = go.Figure()
    look = looks(list(sweeps) if minima is None else minima)
    for level, sweep in sweeps.items():
        name = minimum_name(level, variation_of(sweep.metadata))
        for k in range(min(MAX_CURVES, len(sweep.loss))):
            figure.add_trace(
                go.Scatter(
                    x=sweep.coefficients * sweep.perturbation_norm[k],
                    y=np.where(sweep.loss[k] > 0, sweep.loss[k], np.nan),
                    mode="lines",
                    line={"color": to_hex(look[level].color), "width": 1},
                    opacity=0.6,
                    name=name,
                    legendgroup=name,
                    showlegend=k == 0,
                    hovertemplate=f"{name}, direction {sweep.perturbation_seed[k]}<br>radius %{{x:.3g}}, loss %{{y:.3g}}<extra></extra>",
                )
            )
    for threshold in thresholds:
        figure.add_hline(y=threshold, line={"dash": "dash", "color": "#D55E00"}, annotation_text=f"{threshold:g}")
    figure.update_layout(xaxis_title="radius r = c ||xi||", yaxis_title="loss", yaxis_type="log")
    return figure


def _plotly() -> Any:
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise ConfigError("interactive figures need plotly: `pip install minima_volume[interactive]`") from error
    return go
