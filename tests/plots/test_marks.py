"""Marks that figures share: they stay where they can be seen, in colour and in grey."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from minima_volume.perturbation.plane import Plane
from minima_volume.plots.marks import ARROW_POINTS, ARROWS, Look, bounds
from minima_volume.plots.slices import CMAP, planes
from minima_volume.plots.style import RED, caption, new_figure, size_axis


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


@pytest.mark.parametrize("width", [4.0, 6.4, 10.0])
def test_captions_break_where_the_figure_ends(width):
    """Whatever a table has to say of its numbers."""
    figure = new_figure(width, 4)
    figure.subplots().plot([0, 1])
    wide = "Gaussian local volume: 1 of 12 values have a limit on one side only and are left out: MMMM averaged, fitted or ranked"
    caption(figure, f"{wide}\nsecond line")
    figure.canvas.draw()
    (text,) = (one for one in figure.texts if "second line" in one.get_text())
    box = text.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and text.get_text().splitlines()[-1] == "second line"


def test_ticks_beside_a_legend_do_not_touch():
    """The legend takes its part of the width after the ticks are chosen."""
    figure = new_figure(6.6, 4)
    axis = figure.subplots()
    size_axis(axis, [400, 410, 420, 450, 500], share=0.7)
    axis.plot([400, 500], [0, 1], label="wrongly labelled training samples")
    figure.legend(loc="outside right center")
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axis.get_xticklabels() if label.get_text()]
    assert len(boxes) >= 3 and all(a.x1 + 3 < b.x0 for a, b in itertools.pairwise(boxes))
