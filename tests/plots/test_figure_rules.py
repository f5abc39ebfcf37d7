"""What holds for every figure: who is left out, colours, ranges, a caller's settings."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from fake_results import fake_condition

import minima_volume as mv
from minima_volume.analysis import collect, select
from minima_volume.files.atomic import read_json
from minima_volume.plots import style as colours
from minima_volume.plots.marks import level_colors, looks
from minima_volume.plots.style import save_figure


def test_poisoned_samples_have_an_axis_of_their_own(tmp_path):
    """Their number, from 0, not the nearly equal numbers of training samples."""
    folder = fake_condition(tmp_path / "poison", overrides={"data.variant": "poison"})
    rows = select(collect(folder))
    axis = mv.plots.mass_against_data(rows).axes[0]
    assert mv.plots.differences(rows).axes[0].get_xlim()[0] < 20  # its first point, without the 0, is not on the edge
    assert axis.get_xlabel() == "wrongly labelled training samples" and axis.get_xscale() == "symlog"
    assert [text.get_text() for text in axis.get_xticklabels()] == ["0", "20", "40"]


def test_points_stay_at_their_landscape(tmp_path):
    """Side by side, but nearer to their own landscape than to the next, also where landscapes differ by a few samples."""
    found = collect(fake_condition(tmp_path / "base", overrides={"data.base_size": 400, "data.levels": [0, 4, 8]}))
    axis = mv.plots.minima_across_landscapes(found.table, found.cutoffs, 0.5).axes[0]
    drawn = [np.asarray(bars.lines[0].get_xdata(), dtype=float) for bars in axis.containers]
    assert [len(x) for x in drawn] == [1, 2, 3] and len({x[0] for x in drawn}) == 3
    for x in drawn:
        np.testing.assert_allclose(x, [400, 404, 408][: len(x)], atol=0.5)


def test_a_condition_without_gaussian_volumes_is_named(tmp_path):
    """Beside one that has them: its line is missing from that panel, which says so."""
    rows = select(collect(fake_condition(tmp_path / "base")))
    without = rows.assign(log_mass=np.nan, log_mass_lower=np.nan, log_mass_upper=np.nan, sigma=np.nan)
    axes = mv.plots.conditions_against_data({"AdamW": rows, "SAM": without}).axes
    assert ["not measured: SAM" in axis.get_title() for axis in axes] == [True, False, False]


def test_minima_outside_are_said_and_not_drawn(digits_run):
    """A null volume: the title names the level, and the histogram of nothing has still its labels."""
    results = dict(mv.load_results(digits_run.results_file(0, 0.5)))
    results["log_volume_values"] = [results["log_volume_values"][0], None, None]
    figure = mv.plots.volumes(results)
    assert "outside this landscape: 40, 60" in figure.axes[0].get_title()
    radii = {"radius": np.full((3, 12), np.nan)}
    empty = mv.plots.radius_histogram(results, radii)
    assert empty.axes[0].get_xlabel() and not empty.axes[0].lines
    save_figure(figure, digits_run.folder.parent / "outside.png")
    assert (digits_run.folder.parent / "outside.png").read_bytes()[:4] == b"\x89PNG"


def test_the_callers_settings_are_left_alone(digits_run):
    """rcParams and open figures are as before."""
    before = dict(mpl.rcParams)
    mv.plots.volumes(mv.load_results(digits_run.results_file(0, 0.5)))
    assert dict(mpl.rcParams) == before and plt.get_fignums() == []


def contrast(color) -> float:
    """To white, as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(color)]
    return 1.05 / (float(np.dot([0.2126, 0.7152, 0.0722], linear)) + 0.05)


def test_colours_can_be_seen_on_white():
    """Contrast of at least 3:1, and no two minima that differ in their colour alone."""
    assert contrast("white") == pytest.approx(1) and contrast("black") == pytest.approx(21)
    named = [value for name, value in vars(colours).items() if name.isupper() and str(value).startswith("#")]
    assert len(named) == 7 and all(contrast(color) >= 3 for color in (*named, *level_colors(9)))
    shapes = {(look.marker, str(look.line)) for look in looks(range(9)).values()}
    assert len(shapes) == 9


def test_one_landscape_has_no_cutoffs_to_draw(digits_run):
    """A sentence: no samples are added."""
    entry = dict(read_json(digits_run.cutoffs_file)["Model_0"], indices=[20], loss_curve=[0.1])
    assert mv.plots.cutoff_curves({"Model_0": entry}, [0.5]).startswith("there is one landscape alone, of 20 samples")
