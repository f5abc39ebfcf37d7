"""Marks that figures share: they stay where they can be seen, in colour and in grey."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from minima_volume.perturbation.plane import Plane
from minima_volume.plots.marks import ARROW_POINTS, ARROWS, Look, bounds
from minima_volume.plots.slices import CMAP, planes
from minima_volume.plots.style import RED, new_figure


@pytest.mark.parametrize("way", ARROWS)
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_arrows_of_bounds_stay_inside(way, scale):
    """The outermost bound's arrow ends before the title or the next panel begins."""
    figure = new_figure(4, 3)
    axis = figure.subplots()
    axis.set(xscale=scale, yscale=scale)
    bounds(axis, [1, 2, 5], [1, 20, 300], way, Look("C0", "o", "-"))
    figure.canvas.draw()
    _, across, up = ARROWS[way]
    box, tip = axis.get_window_extent(), (ARROW_POINTS + 6) * figure.dpi / 72
    points = axis.transData.transform([(1, 1), (2, 20), (5, 300)]) + tip * np.array([across, up])
    assert all(box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1 for x, y in points)


def luminance(color) -> float:
    return float(np.dot(to_rgb(color), (0.299, 0.587, 0.114)))


def test_the_threshold_is_seen_in_grey():
    """Its red is the grey of the losses about it; it has a white edge."""
    axis = np.linspace(-1, 1, 9)
    loss = 0.1 * np.exp(3 * axis)[None, None, :].repeat(9, 1)
    plane = Plane(axis, axis, loss, (20,), np.array([(0.0, 0.0)]), 0.0, np.array([[0.05]]))
    figure = planes(plane, ["60 samples"], 0.1, "digits, MLP [16]")
    figure.canvas.draw()
    (lines,) = (one for one in figure.axes[0].collections if one.get_path_effects())
    colors = [effect._gc["foreground"] for effect in lines.get_path_effects()]
    assert colors == ["white"] and figure.get_suptitle() == "digits, MLP [16]"
    middle = luminance(colormaps[CMAP](0.5))
    assert abs(luminance(RED) - middle) < 0.15 < 0.4 < luminance("white") - middle
