"""Figures of results of your own models: what they draw are the numbers; interactive pages hold all they need."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import normal
from matplotlib.figure import Figure
from torch import nn

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.plots.interactive import line_browser, save_html, surface
from minima_volume.volume.several import KINDS, Volumes

X = normal(30, 2).float()
Y = (X[:, 0] > 0).long()
GIVEN = {"progress": False, "threshold": 0.3}


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    torch.set_num_threads(1)
    trained = {}
    for name, steps in (("short", 100), ("long", 300)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2))
            optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
            for _ in range(steps):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(X), Y).backward()
                optimizer.step()
        trained[name] = model
    return trained


@pytest.fixture(scope="module")
def results(models):
    model, rays = models["long"], {"measure": "ball", "num_directions": 60}
    settings = mv.ViewSettings(num_chains=2, num_draws=30, num_burn_in=10, density_vectors=1, density_steps=5)
    splitting = {"estimator": "splitting", "num_particles": 40, "num_repeats": 4, "num_moves": 5}
    several = mv.measure_volumes(models, X, Y, sigma=0.1, **GIVEN)
    return {
        "mass": mv.measure_volume(model, X, Y, sigma=0.1, **GIVEN),
        "splitting": mv.measure_volume(model, X, Y, sigma=0.6, **splitting, **GIVEN),
        "profile": mv.measure_volume(model, X, Y, sigma=[0.2, 0.05], **GIVEN),
        "rays": mv.measure_volume(model, X, Y, **rays, **GIVEN),
        "several": several,
        "profiles": mv.measure_volumes(models, X, Y, sigma=[0.05, 0.2], **GIVEN),
        "stars": mv.measure_volumes(models, X, Y, **rays, **GIVEN),
        "pair": mv.compare(several["long"], several["short"]),
        "views": mv.other_views(model, X, Y, threshold=0.3, settings=settings),
        "line": mv.slice_line(model, X, Y, threshold=0.3, seeds=(1, 2), num_points=21),
        "line without a threshold": mv.slice_line(model, X, Y),
        "plane": mv.slice_plane(models, X, Y, threshold=0.3, resolution=9, progress=False),
        "plane without a threshold": mv.slice_plane(model, X, Y, resolution=5, progress=False),
        "outside": mv.measure_volume(model, X, 1 - Y, sigma=0.1, **GIVEN),
        "no region": mv.measure_volume(model, X, 1 - Y, **rays, **GIVEN),
        "no views": mv.other_views(model, X, Y, settings=mv.ViewSettings(num_chains=0, density_vectors=0)),
    }


def words(figure: Figure) -> str:
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    for axis in figure.axes:
        texts += [
            axis.get_title(),
            axis.get_xlabel(),
            axis.get_ylabel(),
            *(t.get_text() for t in axis.get_xticklabels()),
        ]
    return "\n".join(texts)


def test_every_kind_has_a_figure(results):
    """It can be drawn as a file, and every axis that is shown says what it is."""
    assert {type(one) for one in results.values()} == set(KINDS)
    for name, one in results.items():
        figure = one.plot()
        assert isinstance(figure, Figure), name
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=40)
        assert content.getvalue()[:4] == b"\x89PNG"
        for axis in figure.axes:
            assert axis.get_xlabel() or axis.get_ylabel() or axis.get_xticklabels() or not axis.axison, name


def test_a_figure_of_several_shows_their_numbers(results):
    """Names below, log masses as marks, intervals as bars."""
    several = results["several"]
    (axis,) = several.plot().axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["short", "long"]
    marks = [line for line in axis.lines if len(line.get_xdata()) == 1]
    assert [mark.get_ydata()[0] for mark in marks] == [several["short"].log_mass, several["long"].log_mass]
    bars = [tuple(line.get_ydata()) for line in axis.lines if len(line.get_xdata()) == 2]
    assert bars == [several["short"].interval, several["long"].interval]


def test_a_profile_is_drawn_in_the_order_of_its_sigmas(results):
    """However they were given."""
    (axis,) = results["profile"].plot().axes
    curve = axis.lines[0]
    assert list(curve.get_xdata()) == [0.05, 0.2]
    assert list(curve.get_ydata()) == results["profile"].log_mass[::-1].tolist()


def test_splitting_shows_its_levels(results):
    """A line a repeat, which ends at the threshold with the repeat's own log mass."""
    one = results["splitting"]
    (axis,) = one.plot().axes
    repeats = [line for line in axis.lines if len(line.get_xdata()) > 2 or line.get_alpha()]
    ends = {round(float(line.get_ydata()[-1]), 9) for line in repeats}
    assert ends == {round(repeat.log_mass, 9) for repeat in one.repeats if repeat.reason is None and repeat.stages}
    for line in repeats:
        assert line.get_xdata()[-1] == 0.3 and (np.diff(line.get_ydata()) <= 0).all()
        assert (np.diff(line.get_xdata()) <= 0).all()


def test_figures_of_runs_take_results_of_your_own(results):
    """One, several, a dictionary; of one kind only."""
    assert mv.plots.log_masses(results["mass"]).axes
    assert (
        mv.plots.log_masses({"a": results["mass"], "b": results["mass"]}).axes[0].get_xticklabels()[1].get_text() == "b"
    )
    assert len(mv.plots.volume_profiles(results["profiles"]).axes[0].lines) >= 2
    assert mv.plots.volumes(results["stars"]).axes and mv.plots.radius_histogram(results["rays"]).axes
    with pytest.raises(ConfigError, match="one kind; these are LocalVolume, VolumeProfile"):
        mv.plots.log_masses({"a": results["mass"], "b": results["profile"]})
    with pytest.raises(ConfigError, match="radii.npz"):
        mv.plots.radius_histogram({"loss_threshold": 0.1})


def test_radii_are_drawn_as_their_distribution(results):
    """Of a star region the share of directions up to each radius."""
    axis = results["rays"].plot().axes[0]
    (line,) = axis.lines
    assert np.array_equal(line.get_xdata(), np.sort(results["rays"].radii)) and line.get_ydata()[-1] == 1


def test_what_is_not_there_says_why(results):
    text = words(results["no views"].plot())
    assert "density_vectors is 0" in text and "num_chains is 0" in text


def test_the_plane_marks_models_by_their_own_loss(results):
    """Filled inside, hollow outside, and the legend says so only where one is; the threshold's contour is there."""
    found = results["plane"]
    figure = mv.plots.planes(found)
    axis = figure.axes[0]
    faces = [line.get_color() for line in axis.lines]
    assert faces == ["white", "white"]
    assert "hollow: outside" not in [text.get_text() for text in figure.legends[0].get_texts()]
    strict = float(found.plane.at_points.mean())
    figure = mv.plots.planes(found, threshold=strict)
    assert sorted(line.get_color() for line in figure.axes[0].lines) == ["none", "white"]
    assert "hollow: outside" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert "direction to long" in words(figure) and "random direction 1" in words(figure)


def test_interactive_pages_need_no_net(results, tmp_path: Path):
    """Everything is in the page; the numbers are those of the slice."""
    pytest.importorskip("plotly")
    drawn = surface(results["plane"])
    assert drawn.data[0].z.shape == (9, 9) and drawn.data[1].text == ("short", "long")
    browser = line_browser(results["line"])
    assert [trace.name for trace in browser.data] == ["direction 1", "direction 2"]
    assert list(browser.data[0].y) == results["line"].losses[0].tolist()
    page = save_html(drawn, tmp_path / "plane.html").read_text(encoding="utf-8")
    assert len(page) > 1_000_000 and 'src="http' not in page.replace("'", '"')
    assert surface(results["plane without a threshold"]).data[0].contours.z.show is False
    with pytest.raises(ConfigError, match="2 minima; names has 1"):
        surface(results["plane"], ["a"])
    json.dumps(json.loads(drawn.to_json()))


def test_several_from_a_dictionary_is_the_same_as_measured_together(results):
    """`Volumes` of estimates that were measured one by one."""
    again = Volumes(dict(results["several"].estimates))
    assert again.verdict == results["several"].verdict


def test_growth_of_star_regions(results):
    """The last point of each curve is the estimate; masses have no directions to count."""
    figure = mv.plots.growth_with_directions(results["stars"])
    curves = {line.get_label(): line for line in figure.axes[0].lines if not line.get_label().startswith("_")}
    assert set(curves) == {"short", "long"}
    for name, line in curves.items():
        assert line.get_xdata()[-1] == 60 and line.get_ydata()[-1] == pytest.approx(results["stars"][name].log_exp_r_n)
    with pytest.raises(ConfigError, match="growth is that of star regions .*, not of LocalVolume"):
        mv.plots.growth_with_directions(results["several"])
