"""Interactive twins of two figures, for a notebook or a web page; they need the extra `interactive` (plotly)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minima_volume.errors import ConfigError
from minima_volume.perturbation.plane import Plane
from minima_volume.stages.run import minimum_name, variation_of
from minima_volume.stages.sweep_files import Sweep

MAX_CURVES = 60


def surface(plane: Plane, names: Sequence[str], threshold: float, landscape: int = -1) -> Any:
    """The plane through three minima as a surface to turn around: height is log10 of the loss.

    Args:
        plane: from `run_plane`.
        names: of the three minima.
        threshold: of the loss, drawn as a line on the surface.
        landscape: which of the plane's landscapes; the largest by default.

    Returns:
        A plotly Figure.

    Raises:
        ConfigError: plotly is not installed.
    """
    go = _plotly()
    low, high = threshold / 50, threshold * 100
    height = np.log10(np.clip(plane.loss[landscape], low, high))
    line = {
        "show": True,
        "start": np.log10(threshold),
        "end": np.log10(threshold),
        "size": 1,
        "color": "#D55E00",
        "width": 6,
    }
    figure = go.Figure(
        go.Surface(
            x=plane.u, y=plane.v, z=height, colorscale="Cividis", contours={"z": line}, colorbar={"title": "log10 loss"}
        )
    )
    rows = [np.abs(plane.v - v).argmin() for v in plane.points[:, 1]]
    columns = [np.abs(plane.u - u).argmin() for u in plane.points[:, 0]]
    figure.add_trace(
        go.Scatter3d(
            x=plane.points[:, 0],
            y=plane.points[:, 1],
            z=height[rows, columns] + 0.05,
            text=list(names),
            mode="markers+text",
            marker={"size": 5, "color": "#D55E00"},
            name="minima",
        )
    )
    scene = {"xaxis_title": "distance (radius)", "yaxis_title": "distance across (radius)", "zaxis_title": "log10 loss"}
    figure.update_layout(title=f"landscape of {plane.sizes[landscape]:,} samples, threshold {threshold:g}", scene=scene)
    return figure


def loss_curve_browser(sweeps: Mapping[int, Sweep], thresholds: Sequence[float]) -> Any:
    """Losses along random directions, one to be pointed at: hovering says the direction's seed, clicking a minimum hides it.

    Args:
        sweeps: level -> its sweep in one landscape.
        thresholds: loss thresholds, drawn as lines.

    Returns:
        A plotly Figure.

    Raises:
        ConfigError: plotly is not installed.
    """
    go = _plotly()
    figure = go.Figure()
    colours = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"]
    for i, (level, sweep) in enumerate(sweeps.items()):
        name = minimum_name(level, variation_of(sweep.metadata))
        for k in range(min(MAX_CURVES, len(sweep.loss))):
            figure.add_trace(
                go.Scatter(
                    x=sweep.coefficients * sweep.perturbation_norm[k],
                    y=np.where(sweep.loss[k] > 0, sweep.loss[k], np.nan),
                    mode="lines",
                    line={"color": colours[i % len(colours)], "width": 1},
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
